"""The interface for users: any image and any class names in, named masks out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frozenseg.data.augmentation import resize_for_test
from frozenseg.data.images import read_image
from frozenseg.errors import UserError
from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.inference.segmentation import Segmentation
from frozenseg.inference.test_time_augmentation import Augmentation, AugmentedPredictor
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.protocols import TextRows
from frozenseg.structures import InputImage
from frozenseg.towers.roles import TextEncoder
from frozenseg.vocabulary.literal import as_literal
from frozenseg.vocabulary.literal_names import with_others
from frozenseg.vocabulary.text_classifier import TextClassifier, embed_vocabulary
from frozenseg.vocabulary.two_spaces import TwoSpaces
from frozenseg.vocabulary.vocabulary import Vocabulary, parse_vocabulary

Task = Literal["panoptic", "semantic", "instance"]
ImageLike = str | Path | Image.Image | np.ndarray | Tensor
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
        short_side, long_side: images are scaled so that the short side has ``short_side`` pixels,
            or fewer where the long one would exceed ``long_side``.
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
        self, image: ImageLike, vocabulary: VocabularyLike, *, task: Task = "panoptic"
    ) -> Segmentation:
        """Segments one image.

        Args:
            image: a file, a Pillow image, an (H, W), (H, W, 3) or (H, W, 4) array, or a (3, H, W)
                tensor, RGB values 0..255.
            vocabulary: ``["cat, kitten", "grass [stuff]"]``, the same as one string with
                semicolons, a file, a built-in name such as ``ade20k_150``, or a ``Vocabulary``.
            task: panoptic: at most one named segment per pixel; semantic: a class per pixel;
                instance: scored, possibly overlapping things.

        Raises:
            UserError: the image cannot be read, the vocabulary is empty or repeats a name, or the
                model does not support the task.
        """
        return self.batch([image], vocabulary, task=task)[0]

    def batch(
        self, images: Iterable[ImageLike], vocabulary: VocabularyLike, *, task: Task = "panoptic"
    ) -> list[Segmentation]:
        """Segments images of any sizes with one vocabulary; results equal those of single calls.

        Args:
            images: as for a single call.
            vocabulary: as for a single call.
            task: as for a single call.
        """
        names = vocabulary if isinstance(vocabulary, Vocabulary) else parse_vocabulary(vocabulary)
        names = with_others(as_literal(names)) if self.literal else names
        originals = [read_image(image) for image in images]
        inputs = [
            InputImage(
                resize_for_test(image, self.short_side, self.long_side), image, size_of(image)
            )
            for image in originals
        ]
        predict = self.build_predictor(names, outputs=(task,))
        return [
            Segmentation(image=image, vocabulary=names, task=task, result=result)
            for image, result in zip(originals, predict(inputs), strict=True)
        ]

    def build_predictor(
        self,
        vocabulary: Vocabulary,
        *,
        outputs: Sequence[str] = (),
        training: Vocabulary | None = None,
        text: TextRows | None = None,
    ) -> AnyPredictor:
        """Returns a predictor for one vocabulary.

        Args:
            vocabulary: the classes.
            outputs: some of ``OUTPUTS``; empty: the configured ones.
            training: classes that count as seen; None: those of the training data.
            text: rows of the vocabulary, if already computed.

        Raises:
            UserError: the model does not support an output.
        """
        settings = self._settings_for(outputs)
        vocabulary = as_literal(vocabulary) if self.literal else vocabulary
        self._check_tasks(settings)
        predictor = Predictor(
            model=self.model,
            text=self._embed(vocabulary) if text is None else text,
            is_thing=torch.tensor(vocabulary.is_thing, device=self.device),
            seen=torch.tensor(vocabulary.seen_by(training or self.training), device=self.device),
            settings=settings,
            mask_ensemble=self.mask_ensemble,
        )
        if self.augmentation is None or not settings.semantic:
            return predictor
        return AugmentedPredictor(predictor, self.augmentation)

    def _embed_vocabulary(self, vocabulary: Vocabulary) -> TextRows:
        rows = self._embed_with(self.model.text_encoder, vocabulary)
        if self.model.region_text_encoder is None:
            return rows
        return TwoSpaces(rows, self._embed_with(self.model.region_text_encoder, vocabulary))

    def _embed_with(self, encoder: TextEncoder, vocabulary: Vocabulary) -> TextClassifier:
        return embed_vocabulary(encoder, vocabulary, cache_dir=self.cache_dir).to(self.device)

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
