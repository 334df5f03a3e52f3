"""From images to results for one vocabulary: propose, classify, ensemble, read off the outputs."""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.outputs import PROPOSALS, OutputSettings
from frozenseg.inference.semantic import ClassMaps, WeightedMasks
from frozenseg.inference.tiled_masks import (
    TiledMasks,
    resize_of_image,
    resize_of_masks,
    resized,
)
from frozenseg.ops.maps import Size, size_of
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
        wanted, size, image_size = self.settings, image.output_size, proposals.frame.image_size
        resize = resize_of_image(proposals, size, num_classes=class_probs.general.shape[-1] - 1)
        masks = TiledMasks(proposals.mask_logits, resize_of_masks(proposals, resize.reads))
        # semantic output alone is resized last; published numbers follow this order
        if wanted.semantic_only and image_size != size:
            layers = self._layers(image, proposals, class_probs.general, masks, image_size)
            labels, maps = self._semantic(ClassMaps(layers, resize))
            return Result(semantic=labels, class_maps=maps)
        masks = TiledMasks(proposals.mask_logits, resize.after(masks.resize))
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
        self, image: InputImage, proposals: Proposals, class_probs: ClassProbs, masks: TiledMasks
    ) -> Result:
        """Returns the outputs from mask logits at the output size."""
        wanted, size, extras = self.settings, image.output_size, {}
        labels = maps = panoptic = instances = None
        if wanted.semantic:
            layers = self._layers(image, proposals, class_probs.general, masks, size)
            labels, maps = self._semantic(ClassMaps(layers))
        if wanted.panoptic:
            panoptic = wanted.panoptic_of(class_probs.panoptic, masks, self.is_thing)
        if wanted.instance:
            instances = wanted.instances_of(class_probs.general, masks, self.is_thing)
        if wanted.proposals:
            extras[PROPOSALS] = masks.inside()
        if wanted.proposals and image.sam_masks is not None:
            sam_masks = image.sam_masks.to(self.seen.device)
            extras[SAM_PROPOSALS] = resized(sam_masks, size, masks.tiling).inside()
        return Result(labels, panoptic, instances, extras, maps)

    def _layers(
        self,
        image: InputImage,
        proposals: Proposals,
        class_probs: Tensor,
        masks: TiledMasks,
        size: Size,
    ) -> list[WeightedMasks]:
        """Returns the masks that make up the class maps at ``size``: queries' and SAM's (eq. 4)."""
        if self.mask_ensemble is None:
            return [WeightedMasks(class_probs[:, :-1], masks)]
        sam = self.mask_ensemble.proposals(
            image, proposals, self.text, self.seen, void=self.model.proposer.void
        )
        weights = self.mask_ensemble.weights(class_probs, sam, self.seen)
        sam_masks = resized(sam.mask_logits, size, masks.tiling)
        return [WeightedMasks(weights.queries, masks), WeightedMasks(weights.sam, sam_masks)]

    def _semantic(self, scores: ClassMaps) -> tuple[Tensor, Tensor | None]:
        """Returns class ids, and on request the scores."""
        return scores.labels_and_maps() if self.settings.class_maps else (scores.labels(), None)
