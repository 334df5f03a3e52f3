"""From an annotated picture to what the criterion compares with."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frozenseg.data.augmentation import (
    NO_SEGMENT,
    PADDING_VALUE,
    crop_and_pad,
    crop_offset,
    jittered_size,
    resize_ids,
    resize_image,
)
from frozenseg.structures import PanopticMap, Sample, Target


@dataclass(frozen=True, kw_only=True)
class TrainingMapper:
    """Flip, large-scale jitter and a fixed crop of a panoptic sample (Mask2Former, sec. 4.1).

    Args:
        crop_size: side of the square, pixels.
        min_scale, max_scale: the picture is fitted into ``crop_size`` times a number between them.
        flip: probability of a horizontal flip.
        keep_cropped_away: segments that the crop leaves nothing of stay as targets without a pixel,
            as in official training; False drops them.
    """

    crop_size: int = 1024
    min_scale: float = 0.1
    max_scale: float = 2.0
    flip: float = 0.5
    keep_cropped_away: bool = True

    def __call__(self, sample: Sample, generator: np.random.Generator) -> tuple[Tensor, Target]:
        """A (3, S, S) uint8 picture and its target; the generator's state decides everything."""
        if sample.panoptic is None:
            raise ValueError(f"{sample.file_name} has no panoptic annotation to train on")
        image, ids = sample.image, sample.panoptic.ids
        if generator.random() < self.flip:
            image, ids = image.flip(-1), ids.flip(-1)
        scale = generator.uniform(self.min_scale, self.max_scale)
        fraction = generator.random()
        height, width = ids.shape
        size = jittered_size((height, width), crop_size=self.crop_size, scale=scale)
        offset = crop_offset(size, crop_size=self.crop_size, fraction=fraction)
        image = crop_and_pad(
            resize_image(image, size), offset, crop_size=self.crop_size, fill=PADDING_VALUE
        )
        ids = crop_and_pad(resize_ids(ids, size), offset, crop_size=self.crop_size, fill=NO_SEGMENT)
        target = target_of(PanopticMap(ids, sample.panoptic.segments))
        return image.contiguous(), target if self.keep_cropped_away else _without_empty(target)


def target_of(panoptic: PanopticMap) -> Target:
    """One target per segment, things and stuff alike; crowds are dropped, their pixels no one's."""
    kept = [segment for segment in panoptic.segments if not segment.is_crowd]
    segment_ids = torch.tensor([segment.id for segment in kept], dtype=panoptic.ids.dtype)
    return Target(
        class_ids=torch.tensor([segment.class_id for segment in kept], dtype=torch.int64),
        masks=panoptic.ids[None] == segment_ids[:, None, None],
    )


def _without_empty(target: Target) -> Target:
    occupied = target.masks.flatten(1).any(dim=1)
    return Target(target.class_ids[occupied], target.masks[occupied])
