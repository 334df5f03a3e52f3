"""From a batch's predictions to results at the size each caller asked for."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from frozenseg.inference.instance import top_instances
from frozenseg.inference.panoptic import panoptic_map
from frozenseg.inference.semantic import class_maps
from frozenseg.ops.maps import resize_maps
from frozenseg.structures import Result

PROPOSALS = "proposals"  # among a result's extras
Refine = Callable[[Tensor], Tensor]


def unchanged(maps: Tensor) -> Tensor:
    """Refines nothing."""
    return maps


@dataclass(frozen=True)
class Postprocess:
    """Which outputs to make, and the thresholds of each.

    With panoptic, instance or proposal output, masks are brought to the output size before anything
    is combined; with semantic output alone, class maps are made at the padded size and resized
    last. Published numbers follow this order.

    ``things_only`` keeps stuff out of instance output; with panoptic output it is out anyway.
    ``proposals`` adds all queries' masks, (Q, H, W) bool, to the extras (Table 8).
    """

    semantic: bool = True
    panoptic: bool = True
    instance: bool = True
    proposals: bool = False
    things_only: bool = False
    object_threshold: float = 0.0
    overlap_threshold: float = 0.8
    num_instances: int = 100

    def __call__(
        self,
        class_probs: Tensor,
        mask_logits: Tensor,
        is_thing: Tensor,
        *,
        padded_size: tuple[int, int],
        image_size: tuple[int, int],
        output_size: tuple[int, int],
        refine: Refine = unchanged,
    ) -> Result:
        """One image: (Q, K + 1) class probabilities and (Q, h, w) mask logits at stride 4.

        ``refine`` may change the image's (K, H, W) class maps at the size that they are made at
        (eq. 4).
        """
        height, width = image_size
        masks = resize_maps(mask_logits, padded_size)[:, :height, :width]
        if self.semantic and not (self.panoptic or self.instance or self.proposals):
            maps = refine(class_maps(class_probs, masks.sigmoid()))
            return Result(semantic=resize_maps(maps, output_size))
        masks = resize_maps(masks, output_size)
        mask_probs = masks.sigmoid()
        return Result(
            semantic=refine(class_maps(class_probs, mask_probs)) if self.semantic else None,
            panoptic=panoptic_map(
                class_probs,
                mask_probs,
                is_thing,
                object_threshold=self.object_threshold,
                overlap_threshold=self.overlap_threshold,
            )
            if self.panoptic
            else None,
            instances=top_instances(
                class_probs,
                masks,
                is_thing if self.panoptic or self.things_only else None,
                num_instances=self.num_instances,
            )
            if self.instance
            else None,
            extras={PROPOSALS: masks > 0} if self.proposals else {},
        )
