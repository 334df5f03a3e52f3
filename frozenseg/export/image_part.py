"""The image part of an exported model: pixels and text rows to class probabilities and masks."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.modeling.deformable_encoder import DeformableAttention
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.region_classifiers.pooled_map import PooledMap
from frozenseg.structures import ClipMap, Frame, Proposals
from frozenseg.vocabulary.text_classifier import best_cosines


@dataclass(frozen=True, eq=False)
class OpenRows:
    """Text rows that are inputs of a graph, so that the number of classes is a symbol.

    Args:
        embeddings: (S, D) of unit length.
        class_ids: (S,) int64, the class of each row.
        num_classes: K.
    """

    embeddings: Tensor
    class_ids: Tensor
    num_classes: int

    def for_image(self, clip_map: Tensor | None) -> "OpenRows":
        """Returns itself: the rows depend on the words alone."""
        return self

    def for_regions(self) -> "OpenRows":
        """Returns itself: proposer and region classifier share a CLIP space."""
        return self

    def logits(
        self, embeddings: Tensor, logit_scale: Tensor | float, *, void: Tensor | None = None
    ) -> Tensor:
        """Returns what ``TextClassifier.logits`` returns."""
        return logit_scale * best_cosines(
            embeddings, self.embeddings, self.class_ids, num_classes=self.num_classes, void=void
        )


class ImagePart(nn.Module):
    """The walk of one image from pixels to fused class probabilities, without post-processing.

    Args:
        model: FrozenSeg or FC-CLIP. Its deformable attention is switched to PyTorch's own
            operators, also for later calls.

    Raises:
        UserError: another system, whose walk does not fit into one graph.
    """

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.proposer, self.region_classifier = exportable_members(model)
        self.model = model
        for module in model.modules():
            if isinstance(module, DeformableAttention):
                module.portable = True

    def forward(
        self, pixels: Tensor, size: Tensor, text_rows: Tensor, class_ids: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns (Q, K + 1) class probabilities, void last, and (Q, H / 4, W / 4) mask logits.

        Args:
            pixels: (3, H, W) float RGB in 0..255, padded to multiples of the model's divisibility
                on the right and at the bottom; the padding's values do not matter.
            size: (2,) int64, height and width of the image without padding.
            text_rows: (S, D) of unit length, one per synonym.
            class_ids: (S,) int64, the class of each row; 0 to K - 1 all occur.
            seen: (K,) bool, classes of the training vocabulary.
        """
        text = OpenRows(text_rows, class_ids, seen.shape[0])
        inside = _inside(pixels, size)
        proposer, sam = self.proposer, self.proposer.sam
        predictions, features = proposer.predict(
            _normalized(proposer.backbone, pixels, inside),
            None if sam is None else _normalized(sam, pixels, inside),
            text,
            every_layer=False,
        )
        class_logits, mask_logits = predictions[-1]
        padded = size_of(pixels)
        frame = Frame(padded, padded)
        clip_map = ClipMap(features, frame, proposer.backbone)
        proposals = Proposals(mask_logits[0].float(), frame, class_logits[0], clip_map)
        # not through the region classifier's forward: a tracer wraps modules, so that it would not
        # recognise its own tower and compute the map again
        embed = self.region_classifier.embed
        regions = embed(clip_map, proposals.mask_logits) if self.model.uses_regions else None
        return self.model.fuse(proposals, regions, text, seen).general, proposals.mask_logits


def exportable_members(model: SegmentationModel) -> tuple[FrozenSeg, PooledMap]:
    """Returns proposer and region classifier of a model that can be exported.

    Raises:
        UserError: another system.
    """
    proposer, regions = model.proposer, model.region_classifier
    if (
        isinstance(proposer, FrozenSeg)
        and isinstance(regions, PooledMap)
        and regions.clip is proposer.backbone
        and model.panoptic_fusion is None
    ):
        return proposer, regions
    raise UserError(
        "only FrozenSeg and FC-CLIP can be exported, because other systems cannot process an "
        "image in one graph: choose MODEL.PIPELINE PROPOSER mask2former and REGION_CLASSIFIER "
        "pooled_map on one CLIP, and no COAT"
    )


def _inside(pixels: Tensor, size: Tensor) -> Tensor:
    """(H, W) float: 1 where the image is, 0 in its padding."""
    height, width = size_of(pixels)
    rows = torch.arange(height, device=pixels.device) < size[0]
    columns = torch.arange(width, device=pixels.device) < size[1]
    return (rows[:, None] & columns).float()


def _normalized(tower: Any, pixels: Tensor, inside: Tensor) -> Tensor:
    """(1, 3, H, W) as ``FrozenTower.normalize`` makes it, for a padded image and a frozen tower."""
    return ((pixels - tower.pixel_mean) / tower.pixel_std * inside)[None]
