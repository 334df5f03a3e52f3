"""From images to results for one vocabulary: model, class ensemble and post-processing in a row."""

import torch
from torch import Tensor

from frozenseg.inference.class_ensemble import ClassEnsemble, ensemble_classes
from frozenseg.inference.postprocess import Postprocess
from frozenseg.modeling.frozenseg import FrozenSeg, Output
from frozenseg.modeling.mask_pooling import binary_masks
from frozenseg.structures import Result
from frozenseg.vocabulary.text_classifier import TextClassifier


class Predictor:
    """Segments batches of images into one fixed set of classes.

    Args:
        classifier: the classes' text embeddings.
        is_thing, seen: (K,) bool: which classes are things, and which training knew (sec. 4.1).
    """

    def __init__(
        self,
        *,
        model: FrozenSeg,
        classifier: TextClassifier,
        is_thing: Tensor,
        seen: Tensor,
        postprocess: Postprocess,
        ensemble: ClassEnsemble,
    ) -> None:
        self.model = model.eval()
        self.classifier = classifier
        self.is_thing, self.seen = is_thing, seen
        self.postprocess = postprocess
        self.ensemble = ensemble

    @torch.inference_mode()
    def __call__(
        self, images: list[Tensor], output_sizes: list[tuple[int, int]] | None = None
    ) -> list[Result]:
        """Results of (3, H, W) RGB images in 0..255, at ``output_sizes`` (their own by default).

        Images of one padded size share a forward pass; the others go one after another, so that a
        result does not depend on what else is in the batch.
        """
        sizes = output_sizes or [tuple(image.shape[-2:]) for image in images]
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(self.model.padded_size([tuple(image.shape[-2:])]), []).append(index)
        results: dict[int, Result] = {}
        for indices in groups.values():
            output = self.model([images[i] for i in indices], self.classifier)
            class_probs = self.class_probs(output)
            for row, index in enumerate(indices):
                results[index] = self.postprocess(
                    class_probs[row],
                    output.predictions[-1].mask_logits[row].float(),
                    self.is_thing,
                    padded_size=output.padded_size,
                    image_size=output.image_sizes[row],
                    output_size=sizes[index],
                )
        return [results[index] for index in range(len(images))]

    def class_probs(self, output: Output) -> Tensor:
        """(B, Q, K + 1) probabilities of the final masks after the class ensemble, void last."""
        class_logits, mask_logits = output.predictions[-1]
        if not (self.ensemble.alpha or self.ensemble.beta):
            return class_logits.float().softmax(dim=-1)
        valid = None
        if self.ensemble.valid_only:
            valid = binary_masks(mask_logits, output.dense.shape[-2:]).flatten(2).any(dim=-1)
        return ensemble_classes(
            class_logits,
            self.model.classify_regions(output.dense, mask_logits, self.classifier),
            self.seen,
            alpha=self.ensemble.alpha,
            beta=self.ensemble.beta,
            valid=valid,
        )
