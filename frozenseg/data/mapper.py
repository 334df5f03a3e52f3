"""Makes training images and targets from annotated samples."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frozenseg.data.augmentation import (
    crop_box,
    jittered_size,
    pad_to_square,
    resize_image,
    resize_labels,
)
from frozenseg.structures import PanopticMap, Sample, Target

PADDING_VALUE = 128  # of every channel, beside an image that is smaller than the crop


@dataclass(frozen=True, kw_only=True)
class TrainingMapper:
    """Flip, large-scale jitter and a fixed crop of a panoptic sample (Mask2Former, sec. 4.1).

    Args:
        crop_size: side of the square, pixels.
        min_scale, max_scale: the image is fitted into ``crop_size`` times a number between them.
        flip: probability of a horizontal flip.
        keep_empty_targets: keep segments without a pixel after scaling and crop as targets, as in
            official training; False drops them.
    """

    crop_size: int = 1024
    min_scale: float = 0.1
    max_scale: float = 2.0
    flip: float = 0.5
    keep_empty_targets: bool = True

    def __call__(self, sample: Sample, generator: np.random.Generator) -> tuple[Tensor, Target]:
        """Returns a (3, S, S) uint8 image and its target; the generator decides everything."""
        if sample.panoptic is None:
            raise ValueError(f"{sample.file_name} has no panoptic annotation to train on")
        flips = generator.random() < self.flip
        scale = generator.uniform(self.min_scale, self.max_scale)
        fraction = generator.random()
        image, (class_ids, rows) = sample.image, target_rows(sample.panoptic)
        if flips:
            image, rows = image.flip(-1), rows.flip(-1)
        height, width = rows.shape
        size = jittered_size((height, width), crop_size=self.crop_size, scale=scale)
        part = crop_box(size, crop_size=self.crop_size, fraction=fraction)
        image = pad_to_square(resize_image(image, size, part), self.crop_size, fill=PADDING_VALUE)
        rows = pad_to_square(resize_labels(rows, size, part), self.crop_size, fill=len(class_ids))
        target = Target(class_ids, _masks_of(rows, len(class_ids)))
        return image, target if self.keep_empty_targets else _without_empty(target)


def target_of(panoptic: PanopticMap) -> Target:
    """One target per segment, things and stuff alike; crowd segments are dropped."""
    class_ids, rows = target_rows(panoptic)
    return Target(class_ids, _masks_of(rows, len(class_ids)))


def target_rows(panoptic: PanopticMap) -> tuple[Tensor, Tensor]:
    """Class ids (N,) of the targets, and an (H, W) map of each pixel's target.

    N stands for none. The map has bytes if they suffice, which are resized and compared faster.
    """
    kept = [segment for segment in panoptic.segments if not segment.is_crowd]
    dtype = np.uint8 if len(kept) < 255 else np.int32
    ids = np.array([segment.id for segment in kept], dtype=np.int64)
    order = np.argsort(ids)
    values = panoptic.ids.numpy()
    places = np.searchsorted(ids[order], values)
    found = np.append(ids[order], -1)[places] == values
    rows = np.where(found, np.append(order, len(kept))[places], len(kept)).astype(dtype)
    class_ids = torch.tensor([segment.class_id for segment in kept], dtype=torch.int64)
    return class_ids, torch.from_numpy(rows)


def _masks_of(rows: Tensor, num_targets: int) -> Tensor:
    """(N, H, W) bool."""
    return rows[None] == torch.arange(num_targets, dtype=rows.dtype)[:, None, None]


def _without_empty(target: Target) -> Target:
    occupied = target.masks.flatten(1).any(dim=1)
    return Target(target.class_ids[occupied], target.masks[occupied])
