"""Semantic, panoptic and instance outputs of one image, at the size that the caller asked for."""

from dataclasses import dataclass

from torch import Tensor

from frozenseg.inference.instance import top_instances
from frozenseg.inference.panoptic import panoptic_map
from frozenseg.inference.tiled_masks import TiledMasks
from frozenseg.structures import Instances, PanopticMap

PROPOSALS = "proposals"  # key of the queries' masks among a result's extras


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Outputs to compute, and their thresholds.

    Args:
        semantic, panoptic, instance: compute this output.
        class_maps: with semantic output, also keep the (K, H, W) class scores.
        proposals: add all proposed masks, (Q, H, W) bool, to the extras (Table 8).
        things_only: keep stuff out of instance output; with panoptic output it always is.
        object_threshold: least class probability of a panoptic segment.
        overlap_threshold: least visible share of a panoptic segment's mask.
        num_instances: instances kept per image.
    """

    semantic: bool = True
    panoptic: bool = True
    instance: bool = True
    class_maps: bool = False
    proposals: bool = False
    things_only: bool = False
    object_threshold: float = 0.0
    overlap_threshold: float = 0.8
    num_instances: int = 100

    @property
    def semantic_only(self) -> bool:
        """True if class maps are made at the model's size and resized last.

        With any other output, masks are resized to the output size before they are combined.
        Published numbers follow this order.
        """
        return self.semantic and not (self.panoptic or self.instance or self.proposals)

    def panoptic_of(self, class_probs: Tensor, masks: TiledMasks, is_thing: Tensor) -> PanopticMap:
        """Returns the panoptic map of masks and their (Q, K + 1) class probabilities."""
        return panoptic_map(
            class_probs,
            masks,
            is_thing,
            object_threshold=self.object_threshold,
            overlap_threshold=self.overlap_threshold,
        )

    def instances_of(self, class_probs: Tensor, masks: TiledMasks, is_thing: Tensor) -> Instances:
        """Returns the best instances of masks and their (Q, K + 1) class probabilities."""
        things = is_thing if self.panoptic or self.things_only else None
        return top_instances(class_probs, masks, things, num_instances=self.num_instances)
