"""The interface for users: any image and any class names in, named masks out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Unpack, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frozenseg.data.augmentation import resize_for_test
from frozenseg.data.images import read_image
from frozenseg.errors import UserError
from frozenseg.inference.call_options import CallOptions, Task, check_options, chosen_model
from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.inference.segmentation import Segmentation
from frozenseg.inference.test_time_augmentation import Augmentation, AugmentedPredictor
from frozenseg.io.files import user_path
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.protocols import TextRows
from frozenseg.runtime.memory import memory_gate
from frozenseg.structures import InputImage, Result
from frozenseg.towers.roles import TextEncoder
from frozenseg.vocabulary.content_rows import ContentRows
from frozenseg.vocabulary.literal import as_literal
from frozenseg.vocabulary.literal_names import with_others
from frozenseg.vocabulary.templates import VILD_TEMPLATES
from frozenseg.vocabulary.text_classifier import TextClassifier, embed_vocabulary
from frozenseg.vocabulary.two_spaces import TwoSpaces
from frozenseg.vocabulary.vocabulary import Vocabulary, parse_vocabulary

ImageLike = str | Path | bytes | Image.Image | np.ndarray | Tensor
VocabularyLike = str | Path | Sequence[str] | Vocabulary
AnyPredictor = Predictor | AugmentedPredictor

OUTPUTS = (*get_args(Task), "proposals")
CACHED_PREDICTORS = 8  # vocabularies whose text rows stay in memory


class Segmenter:
    """A trained model, ready for any vocabulary.

    Args:
        model: the system.
        training: the classes of the training data; all others count as unseen (eq. 3).
        settings: thresholds, and the outputs of calls that name none.
        short_side: short side of resized images, pixels; less if ``long_side`` limits it.
        long_side: maximum long side of resized images, pixels.
        device: of the model.
        cache_dir: folder of text embeddings; None: no cache.
        mask_ensemble: mixes SAM's masks into semantic output (eq. 4); None: off.
        augmentation: semantic output is the mean over variants of the image; None: off.
        literal: one text row per class, its names as they are written; a single class gets
            "others" beside it.
    """

    def __init__(
        self,
        *,
        model: SegmentationModel,
        training: Vocabulary,
        settings: OutputSettings,
        short_side: int = 800,
        long_side: int = 1333,
        device: torch.device | str = "cpu",
        cache_dir: Path | None = None,
        mask_ensemble: MaskEnsemble | None = None,
        augmentation: Augmentation | None = None,
        literal: bool = False,
    ) -> None:
        self.model = model.to(device).eval()
        self.training, self.settings = training, settings
        self.short_side, self.long_side = short_side, long_side
        self.device = torch.device(device)
        self.cache_dir = cache_dir
        self.mask_ensemble, self.augmentation = mask_ensemble, augmentation
        self.literal = literal
        self._embed = lru_cache(CACHED_PREDICTORS)(self._embed_vocabulary)

    def __call__(
        self, image: ImageLike, vocabulary: VocabularyLike, **options: Unpack[CallOptions]
    ) -> Segmentation:
        """Segments one image.

        Args:
            image: a file, the bytes of one, a Pillow image, an (H, W), (H, W, 3) or (H, W, 4)
                array, or a (3, H, W) tensor; RGB values 0..255.
            vocabulary: ``["cat, kitten", "grass [stuff]"]``, the same as one string with
                semicolons, a file, a built-in name such as ``ade20k_150``, or a ``Vocabulary``.
            options: ``task``, ``bgr``, ``alpha``, ``beta``, ``threshold``, ``templates``; see
                ``CallOptions``.

        Raises:
            UserError: the image cannot be read, the vocabulary is empty or repeats a name, the
                model does not support the task or an option, or there is not enough memory.
        """
        if isinstance(image, (list, tuple, Iterator)):
            raise UserError(
                "a call takes one image: give several to .batch(images, words), which returns a "
                "list, or to .stream(images, words), which segments one at a time"
            )
        return self.batch([image], vocabulary, **options)[0]

    def batch(
        self,
        images: Iterable[ImageLike],
        vocabulary: VocabularyLike,
        **options: Unpack[CallOptions],
    ) -> list[Segmentation]:
        """Segments images of any sizes with one vocabulary; results equal those of single calls.

        Args:
            images: as for a single call. Images of equal size are processed together, and all are
                in memory at once.
            vocabulary: as for a single call.
            options: as for a single call.
        """
        names, sources = self._checked(vocabulary, options), list(images)
        pixels = [read_image(image, bgr=options.get("bgr", False)) for image in sources]
        predict = self._predictor(names, options)  # takes time; bad images are noticed before
        with memory_gate(_names_of(sources)):
            results = predict([self._input_image(each) for each in pixels])
        return [
            self._segmentation(*each, names, options)
            for each in zip(sources, pixels, results, strict=True)
        ]

    def stream(
        self,
        images: Iterable[ImageLike],
        vocabulary: VocabularyLike,
        **options: Unpack[CallOptions],
    ) -> Iterator[Segmentation]:
        """Segments images one after the other, on demand, with one vocabulary.

        Args:
            images: as for a single call; one is in memory at a time.
            vocabulary: as for a single call, embedded once.
            options: as for a single call.
        """
        names = self._checked(vocabulary, options)
        predict = self._predictor(names, options)

        def segment(image: ImageLike) -> Segmentation:
            pixels = read_image(image, bgr=options.get("bgr", False))
            with memory_gate(_names_of([image])):
                (result,) = predict([self._input_image(pixels)])
            return self._segmentation(image, pixels, result, names, options)

        return map(segment, images)

    @property
    def default_task(self) -> Task:
        """Panoptic, or semantic for a model that gives nothing else."""
        return "panoptic" if "panoptic" in self.model.proposer.tasks else "semantic"

    def build_predictor(
        self,
        vocabulary: Vocabulary,
        *,
        outputs: Sequence[str] = (),
        training: Vocabulary | None = None,
        text: TextRows | None = None,
        model: SegmentationModel | None = None,
        object_threshold: float | None = None,
        class_maps: bool = False,
    ) -> AnyPredictor:
        """Returns a predictor for one vocabulary.

        Args:
            vocabulary: the classes.
            outputs: some of ``OUTPUTS``; empty: the configured ones.
            training: classes that count as seen; None: those of the training data.
            text: rows of the vocabulary, if already computed.
            model: this model with other rules; None: unchanged.
            object_threshold: replaces the configured one; None keeps it.
            class_maps: with semantic output, also keep the (K, H, W) scores of all classes.

        Raises:
            UserError: the model does not support an output.
        """
        settings = replace(self._settings_for(outputs), class_maps=class_maps)
        if object_threshold is not None:
            settings = replace(settings, object_threshold=object_threshold)
        vocabulary = as_literal(vocabulary) if self.literal else vocabulary
        self._check_tasks(settings)
        predictor = Predictor(
            model=model or self.model,
            text=self._embed(vocabulary, VILD_TEMPLATES) if text is None else text,
            is_thing=torch.tensor(vocabulary.is_thing, device=self.device),
            seen=torch.tensor(vocabulary.seen_by(training or self.training), device=self.device),
            settings=settings,
            mask_ensemble=self.mask_ensemble,
        )
        if self.augmentation is None or not settings.semantic:
            return predictor
        return AugmentedPredictor(predictor, self.augmentation)

    def _checked(self, vocabulary: VocabularyLike, options: CallOptions) -> Vocabulary:
        """Returns the classes of a call whose options are permitted."""
        check_options({"task": self.default_task, **options})
        names = vocabulary if isinstance(vocabulary, Vocabulary) else parse_vocabulary(vocabulary)
        return with_others(as_literal(names)) if self.literal else names

    def _predictor(self, names: Vocabulary, options: CallOptions) -> AnyPredictor:
        return self.build_predictor(
            names,
            outputs=(options.get("task", self.default_task),),
            text=self._embed(names, tuple(options.get("templates", VILD_TEMPLATES))),
            model=chosen_model(self.model, options),
            object_threshold=options.get("threshold"),
        )

    def _input_image(self, pixels: Tensor) -> InputImage:
        resized = resize_for_test(pixels, self.short_side, self.long_side)
        return InputImage(resized, pixels, size_of(pixels))

    def _segmentation(
        self,
        source: ImageLike,
        pixels: Tensor,
        result: Result,
        names: Vocabulary,
        options: CallOptions,
    ) -> Segmentation:
        task = options.get("task", self.default_task)
        found = Segmentation(
            image=pixels,
            vocabulary=names,
            task=task,
            result=result,
            source=user_path(source) if isinstance(source, (str, Path)) else None,
        )
        threshold = options.get("threshold")
        return found if threshold is None or task != "instance" else found.above(threshold)

    def _embed_vocabulary(self, vocabulary: Vocabulary, templates: tuple[str, ...]) -> TextRows:
        def embed(encoder: TextEncoder) -> TextClassifier:
            rows = embed_vocabulary(
                encoder, vocabulary, templates=templates, cache_dir=self.cache_dir
            )
            return rows.to(self.device)

        rows = embed(self.model.text_encoder)
        if self.model.text_transfer is not None:
            return ContentRows(rows, self.model.text_transfer)
        if self.model.region_text_encoder is None:
            return rows
        return TwoSpaces(rows, embed(self.model.region_text_encoder))

    def _settings_for(self, outputs: Sequence[str]) -> OutputSettings:
        if not outputs:
            return self.settings
        chosen = {name: name in outputs for name in OUTPUTS}
        return replace(self.settings, **chosen, things_only=True)

    def _check_tasks(self, settings: OutputSettings) -> None:
        supported = self.model.proposer.tasks
        refused = [task for task in get_args(Task) if getattr(settings, task)]
        refused = [task for task in refused if task not in supported]
        if refused:
            offered = " and ".join(sorted(supported))
            raise UserError(
                f"this model gives {offered} results only, not {' and '.join(refused)}: choose "
                f"the task {offered}, or turn the others off under MODEL.MASK_FORMER.TEST"
            )


def _names_of(sources: Sequence[ImageLike]) -> str:
    """Returns how a message calls the images of a call."""
    if len(sources) != 1:
        return f"the batch of {len(sources)} images"
    return str(sources[0]) if isinstance(sources[0], (str, Path)) else "the image"
