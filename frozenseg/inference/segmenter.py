"""What users call: any image and any words in, named masks out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frozenseg.data.augmentation import resize_for_test
from frozenseg.data.images import read_image
from frozenseg.errors import UserError
from frozenseg.inference.class_ensemble import ClassEnsemble
from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.only_sam import ClipAlone, OnlySamPredictor
from frozenseg.inference.postprocess import Postprocess
from frozenseg.inference.predictor import Predictor
from frozenseg.inference.segmentation import Segmentation
from frozenseg.inference.test_time_augmentation import Augmentation, AugmentedPredictor
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.vocabulary.text_classifier import TextClassifier, build_text_classifier
from frozenseg.vocabulary.vocabulary import Vocabulary, parse_vocabulary

Task = Literal["panoptic", "semantic", "instance"]
ImageLike = str | Path | Image.Image | np.ndarray | Tensor
VocabularyLike = str | Path | Sequence[str] | Vocabulary

OUTPUTS = ("semantic", "panoptic", "instance", "proposals")
Predict = Predictor | AugmentedPredictor | OnlySamPredictor

KEPT_VOCABULARIES = 8  # whose text embeddings stay in memory


class Segmenter:
    """A trained model, ready for any vocabulary.

    Args:
        model: the trained model; or CLIP alone, for results from SAM's masks and nothing else.
        training: the classes that the model was trained on; the others count as unseen (eq. 3).
        postprocess: thresholds; which outputs are made is the task's to say.
        short_side, long_side: images are scaled so that the short side has ``short_side`` pixels,
            or less where the long one would exceed ``long_side``.
        cache_dir: text embeddings are kept here between runs; None keeps none.
        mask_ensemble: SAM's masks have a say in semantic results (eq. 4); None: they have none.
        augmentation: semantic results are means over variants of the image.
    """

    def __init__(
        self,
        *,
        model: FrozenSeg | ClipAlone,
        training: Vocabulary,
        ensemble: ClassEnsemble,
        postprocess: Postprocess,
        short_side: int = 800,
        long_side: int = 1333,
        device: torch.device | str = "cpu",
        cache_dir: Path | None = None,
        mask_ensemble: MaskEnsemble | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.model = model.to(device).eval()
        self.training = training
        self.short_side, self.long_side = short_side, long_side
        self.ensemble, self.postprocess = ensemble, postprocess
        self.device = torch.device(device)
        self.cache_dir = cache_dir
        self.mask_ensemble, self.augmentation = mask_ensemble, augmentation
        self.predictor = lru_cache(KEPT_VOCABULARIES)(self._build_predictor)

    def __call__(
        self, image: ImageLike, vocabulary: VocabularyLike, *, task: Task = "panoptic"
    ) -> Segmentation:
        """Segments one image.

        Args:
            image: a file, a Pillow image, an (H, W), (H, W, 3) or (H, W, 4) array, or a (3, H, W)
                tensor, values 0..255.
            vocabulary: ``["cat, kitten", "grass [stuff]"]``, the same as one string with
                semicolons, a file, a built-in name such as ``ade20k_150``, or a ``Vocabulary``.
            task: panoptic: every pixel one named segment, or none; semantic: every pixel a class;
                instance: scored, possibly overlapping things.

        Raises:
            UserError: the image cannot be read, the vocabulary is empty or repeats a word.
        """
        return self.batch([image], vocabulary, task=task)[0]

    def batch(
        self, images: Iterable[ImageLike], vocabulary: VocabularyLike, *, task: Task = "panoptic"
    ) -> list[Segmentation]:
        """Segments images of any sizes with the same words; results are as one by one."""
        words = vocabulary if isinstance(vocabulary, Vocabulary) else parse_vocabulary(vocabulary)
        originals = [read_image(image) for image in images]
        sizes = [(image.shape[-2], image.shape[-1]) for image in originals]
        scaled = [resize_for_test(image, self.short_side, self.long_side) for image in originals]
        predict = self.predictor(words, task)
        return [
            Segmentation(image=image, vocabulary=words, task=task, result=result)
            for image, result in zip(originals, predict(scaled, sizes, originals), strict=True)
        ]

    def _build_predictor(
        self,
        vocabulary: Vocabulary,
        *outputs: str,
        training: Vocabulary | None = None,
        classifier: TextClassifier | None = None,
    ) -> Predict:
        """What depends on the words alone.

        Args:
            outputs: what is made of ``OUTPUTS``; none: what is configured.
            training: whose classes count as seen; None: those that the model was trained on.
            classifier: the words' embeddings, where they are at hand.
        """
        classifier = (classifier or self._embed(vocabulary)).to(self.device)
        postprocess = self._outputs(outputs)
        if isinstance(self.model, ClipAlone):
            return self._build_only_sam(self.model, classifier, postprocess)
        predictor = Predictor(
            model=self.model,
            classifier=classifier,
            is_thing=torch.tensor(vocabulary.is_thing, device=self.device),
            seen=torch.tensor(vocabulary.seen_by(training or self.training), device=self.device),
            ensemble=self.ensemble,
            postprocess=postprocess,
            mask_ensemble=self.mask_ensemble,
        )
        if self.augmentation is None or not postprocess.semantic:
            return predictor
        return AugmentedPredictor(predictor, self.augmentation)

    def _embed(self, vocabulary: Vocabulary) -> TextClassifier:
        return build_text_classifier(
            self.model.clip.encode_text,
            vocabulary,
            cache_dir=self.cache_dir,
            tower_fingerprint=self.model.clip.fingerprint,
        )

    def _build_only_sam(
        self, model: ClipAlone, classifier: TextClassifier, postprocess: Postprocess
    ) -> OnlySamPredictor:
        if postprocess.panoptic or postprocess.instance or self.mask_ensemble is None:
            raise UserError(
                "SAM's masks alone give semantic results only: ask for the task semantic, or set "
                "MODEL.MASK_FORMER.TEST.PANOPTIC_ON and INSTANCE_ON to False"
            )
        return OnlySamPredictor(
            model=model, classifier=classifier, source=self.mask_ensemble.source
        )

    def _outputs(self, asked: tuple[str, ...]) -> Postprocess:
        if not asked:
            return self.postprocess
        chosen = {name: name in asked for name in OUTPUTS}
        return replace(self.postprocess, **chosen, things_only=True)
