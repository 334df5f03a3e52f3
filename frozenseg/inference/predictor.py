"""From images to results for one vocabulary: model, ensembles and post-processing in a row."""

from copy import copy
from functools import partial

import torch
from torch import Tensor

from frozenseg.inference.class_ensemble import ClassEnsemble, ensemble_classes
from frozenseg.inference.mask_ensemble import (
    MaskEnsemble,
    ensemble_masks,
    masks_on_cells,
    select_proposals,
)
from frozenseg.inference.postprocess import Postprocess, Refine, unchanged
from frozenseg.modeling.frozenseg import FrozenSeg, Output
from frozenseg.ops.maps import resize_maps
from frozenseg.ops.mask_pooling import binary_masks
from frozenseg.structures import Result
from frozenseg.vocabulary.text_classifier import TextClassifier

SAM_PROPOSALS = "sam_proposals"  # among a result's extras: SAM's masks, (P, H, W) bool
Size = tuple[int, int]


class Predictor:
    """Segments batches of images into one fixed set of classes.

    Args:
        classifier: the classes' text embeddings.
        is_thing, seen: (K,) bool: which classes are things, and which training knew (sec. 4.1).
        mask_ensemble: SAM's masks have a say in semantic results (eq. 4); None: they have none.
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
        mask_ensemble: MaskEnsemble | None = None,
    ) -> None:
        self.model = model.eval()
        self.classifier = classifier
        self.is_thing, self.seen = is_thing, seen
        self.postprocess = postprocess
        self.ensemble = ensemble
        self.mask_ensemble = mask_ensemble

    def __call__(
        self,
        images: list[Tensor],
        output_sizes: list[Size] | None = None,
        originals: list[Tensor] | None = None,
    ) -> list[Result]:
        """Results of (3, H, W) RGB images in 0..255, at ``output_sizes`` (their own by default).

        Images of one padded size share a forward pass; the others go one after another, so that a
        result does not depend on what else is in the batch.

        Args:
            originals: the same pictures as (3, H, W) uint8 before they were resized, which SAM's
                masks are made of; by default the images.
        """
        return self.segment(images, output_sizes, self.sam_masks(originals or images))

    def with_postprocess(self, postprocess: Postprocess) -> "Predictor":
        """The same with other outputs."""
        other = copy(self)
        other.postprocess = postprocess
        return other

    def sam_masks(self, originals: list[Tensor]) -> list[Tensor] | None:
        """(P, H, W) mask logits of SAM for each image, at its size; None where none are needed."""
        needed = self.postprocess.semantic or self.postprocess.proposals
        if self.mask_ensemble is None or not needed:
            return None
        pictures = (image.round().to(torch.uint8) for image in originals)
        return [self.mask_ensemble.source(picture).logits() for picture in pictures]

    @torch.inference_mode()
    def segment(
        self,
        images: list[Tensor],
        output_sizes: list[Size] | None = None,
        sam_masks: list[Tensor] | None = None,
    ) -> list[Result]:
        """The same, with SAM's masks at hand: (P, H, W) logits over each image, of any size."""
        sizes = output_sizes or [_size(image) for image in images]
        groups: dict[Size, list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(self.model.padded_size([_size(image)]), []).append(index)
        results: dict[int, Result] = {}
        for indices in groups.values():
            output = self.model([images[i] for i in indices], self.classifier)
            class_probs = self.class_probs(output)
            for row, index in enumerate(indices):
                masks = None if sam_masks is None else sam_masks[index]
                results[index] = self.result(output, class_probs, row, sizes[index], masks)
        return [results[index] for index in range(len(images))]

    def result(
        self,
        output: Output,
        class_probs: Tensor,
        row: int,
        output_size: Size,
        sam_masks: Tensor | None = None,
    ) -> Result:
        """What becomes of one image of a forward pass.

        Args:
            class_probs: (B, Q, K + 1), as of ``class_probs``.
            row: which image of the batch.
            sam_masks: (P, H, W) logits over it, of any size.
        """
        masks = None if sam_masks is None else sam_masks.to(output.dense)
        result = self.postprocess(
            class_probs[row],
            output.predictions[-1].mask_logits[row].float(),
            self.is_thing,
            padded_size=output.padded_size,
            image_size=output.image_sizes[row],
            output_size=output_size,
            refine=self.mask_refinement(output.dense[row : row + 1], masks),
        )
        if masks is not None and self.postprocess.proposals:
            result.extras[SAM_PROPOSALS] = resize_maps(masks, output_size) > 0
        return result

    def mask_refinement(self, dense: Tensor, sam_masks: Tensor | None) -> Refine:
        """What eq. 4 does to an image's class maps; nothing where no mask of SAM is kept.

        Args:
            dense: the (1, C, h, w) map that CLIP classifies regions from.
            sam_masks: (P, H, W) logits.
        """
        if self.mask_ensemble is None or sam_masks is None or not len(sam_masks):
            return unchanged
        cells = masks_on_cells(sam_masks, _size(dense))
        proposals = select_proposals(
            sam_masks,
            self.model.classify_regions(dense, cells[None], self.classifier)[0],
            self.seen,
            threshold=self.mask_ensemble.threshold,
            visible=(cells > 0).flatten(1).any(dim=1),
        )
        return partial(
            ensemble_masks, proposals=proposals, seen=self.seen, epsilon=self.mask_ensemble.epsilon
        )

    def class_probs(self, output: Output) -> Tensor:
        """(B, Q, K + 1) probabilities of the final masks after the class ensemble, void last."""
        return self.classify(*output.predictions[-1], output.dense)

    def classify(self, class_logits: Tensor, mask_logits: Tensor, dense: Tensor) -> Tensor:
        """The same of any (B, Q, H, W) masks, which CLIP sees on its (B, C, h, w) map.

        Args:
            class_logits: (B, Q, K + 1) of the decoder.
        """
        if not (self.ensemble.alpha or self.ensemble.beta):
            return class_logits.float().softmax(dim=-1)
        valid = None
        if self.ensemble.valid_only:
            valid = binary_masks(mask_logits, dense.shape[-2:]).flatten(2).any(dim=-1)
        return ensemble_classes(
            class_logits,
            self.model.classify_regions(dense, mask_logits, self.classifier),
            self.seen,
            alpha=self.ensemble.alpha,
            beta=self.ensemble.beta,
            valid=valid,
        )


def _size(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]
