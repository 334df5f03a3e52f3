"""From images to results for one vocabulary: propose, classify, ensemble, read off the outputs."""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.outputs import PROPOSALS, OutputSettings
from frozenseg.inference.semantic import class_maps
from frozenseg.ops.maps import Size, resize_maps, size_of
from frozenseg.pipeline.masks import image_masks
from frozenseg.pipeline.model import ClassProbs, SegmentationModel
from frozenseg.pipeline.protocols import TextRows
from frozenseg.structures import InputImage, Proposals, Result

SAM_PROPOSALS = "sam_proposals"  # key of SAM's masks, (P, H, W) bool, among a result's extras


class Predictor:
    """Segments batches of images into one fixed set of classes.

    Args:
        model: the system.
        text: the vocabulary's rows.
        is_thing: (K,) bool.
        seen: (K,) bool, classes of the training vocabulary (sec. 4.1).
        settings: which outputs to compute, and their thresholds.
        mask_ensemble: mixes SAM's masks into semantic output (eq. 4); None: off.
    """

    def __init__(
        self,
        *,
        model: SegmentationModel,
        text: TextRows,
        is_thing: Tensor,
        seen: Tensor,
        settings: OutputSettings,
        mask_ensemble: MaskEnsemble | None = None,
    ) -> None:
        self.model = model.eval()
        self.text, self.is_thing, self.seen = text, is_thing, seen
        self.settings, self.mask_ensemble = settings, mask_ensemble

    def with_settings(self, settings: OutputSettings) -> "Predictor":
        """Returns a predictor with other outputs."""
        other = copy(self)
        other.settings = settings
        return other

    @torch.inference_mode()
    def __call__(self, images: Sequence[InputImage]) -> list[Result]:
        """Segments images of any sizes; a result does not depend on the rest of the batch."""
        groups: dict[Size, list[int]] = {}
        for index, image in enumerate(images):
            size = self.model.proposer.padded_size([size_of(image.pixels)])
            groups.setdefault(size, []).append(index)
        results: dict[int, Result] = {}
        for indices in groups.values():  # proposals of one group are in memory at a time
            batch = [self.with_sam_masks(self._on_device(images[index])) for index in indices]
            found = zip(batch, self.propose(batch), strict=True)
            results |= zip(indices, [self.segment(*each) for each in found], strict=True)
        return [results[index] for index in range(len(images))]

    def propose(self, images: Sequence[InputImage]) -> list[Proposals]:
        """Proposes masks of images that share one padded size."""
        return self.model.proposer.propose(images, self.text)

    def segment(self, image: InputImage, proposals: Proposals) -> Result:
        """Classifies the proposals of one image and computes its outputs."""
        return self.outputs(image, proposals, self.class_probs(image, proposals))

    def class_probs(self, image: InputImage, proposals: Proposals) -> ClassProbs:
        """Returns the class probabilities of an image's proposals."""
        return self.model.class_probs(image, proposals, self.text, self.seen)

    def outputs(self, image: InputImage, proposals: Proposals, class_probs: ClassProbs) -> Result:
        """Computes the outputs of one image from its proposals and their classes."""
        masks = image_masks(proposals)
        if self.settings.semantic_only:
            maps = class_maps(class_probs.general, masks.sigmoid())
            maps = self._refined(maps, image, proposals)
            return Result(semantic=resize_maps(maps, image.output_size))
        masks = resize_maps(masks, image.output_size)
        return self._results(image, proposals, class_probs, masks)

    def with_sam_masks(self, image: InputImage) -> InputImage:
        """Adds SAM's masks to the image where an output needs them."""
        needed = self.settings.semantic or self.settings.proposals
        if self.mask_ensemble is None or image.sam_masks is not None or not needed:
            return image
        return image._replace(sam_masks=self.mask_ensemble.masks_of(image))

    def _on_device(self, image: InputImage) -> InputImage:
        return image._replace(pixels=image.pixels.to(self.seen.device))

    def _results(
        self, image: InputImage, proposals: Proposals, class_probs: ClassProbs, masks: Tensor
    ) -> Result:
        """Returns the outputs from (Q, H, W) mask logits at the output size."""
        wanted, probs = self.settings, masks.sigmoid()
        semantic = panoptic = instances = None
        if wanted.semantic:
            maps = class_maps(class_probs.general, probs)
            semantic = self._refined(maps, image, proposals)
        if wanted.panoptic:
            panoptic = wanted.panoptic_of(class_probs.panoptic, probs, self.is_thing)
        if wanted.instance:
            instances = wanted.instances_of(class_probs.general, masks, self.is_thing)
        extras = {PROPOSALS: masks > 0} if wanted.proposals else {}
        if wanted.proposals and image.sam_masks is not None:
            sam_masks = image.sam_masks.to(masks.device)
            extras[SAM_PROPOSALS] = resize_maps(sam_masks, image.output_size) > 0
        return Result(semantic, panoptic, instances, extras)

    def _refined(self, maps: Tensor, image: InputImage, proposals: Proposals) -> Tensor:
        """Applies the mask ensemble (eq. 4) to an image's class maps."""
        if self.mask_ensemble is None:
            return maps
        sam = self.mask_ensemble.proposals(
            image, proposals, self.text, self.seen, void=self.model.proposer.void
        )
        return self.mask_ensemble.refine(maps, sam, self.seen)
