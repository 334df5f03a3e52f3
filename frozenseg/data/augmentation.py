"""Scales and crops images, for training and for tests.

The recipe is Mask2Former's on COCO panoptic: flip, large-scale jitter, fixed crop.
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Box(NamedTuple):
    """A part of an image, pixels; right and bottom are exclusive."""

    top: int
    left: int
    bottom: int
    right: int


def resize_for_test(image: Tensor, short_side: int, long_side: int) -> Tensor:
    """(3, H, W) uint8 with its short side at ``short_side``, or its long side at ``long_side``.

    The smaller of the two results is taken; sizes are rounded half up; Pillow's bilinear filter.
    """
    height, width = image.shape[-2:]
    scale = short_side / min(height, width)
    size = (scale * height, scale * width)
    if max(size) > long_side:
        size = tuple(side * long_side / max(size) for side in size)
    return resize_image(image, (int(size[0] + 0.5), int(size[1] + 0.5)))


def resize_image(image: Tensor, size: tuple[int, int], part: Box | None = None) -> Tensor:
    """(3, H, W) uint8 to ``size`` (height, width), at least 1 x 1, by Pillow's bilinear filter.

    Only ``part`` of the resized image is returned.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    resized = _resize(picture, size, Image.Resampling.BILINEAR, part)
    return torch.from_numpy(resized).permute(2, 0, 1).contiguous()


def resize_labels(labels: Tensor, size: tuple[int, int], part: Box | None = None) -> Tensor:
    """(H, W) uint8 or int32 labels to ``size``, by the nearest pixel."""
    picture = Image.fromarray(labels.numpy())
    return torch.from_numpy(_resize(picture, size, Image.Resampling.NEAREST, part))


def _resize(
    picture: Image.Image, size: tuple[int, int], resample: Image.Resampling, part: Box | None
) -> np.ndarray:
    # The whole image is resized, because Pillow rounds differently when it resizes a part.
    picture = picture.resize((max(size[1], 1), max(size[0], 1)), resample)
    if part is not None:
        picture = picture.crop((part.left, part.top, part.right, part.bottom))
    return np.array(picture)


def jittered_size(size: tuple[int, int], *, crop_size: int, scale: float) -> tuple[int, int]:
    """The size that fits an image into a square of ``crop_size * scale`` pixels, aspect kept."""
    factor = crop_size * scale / max(size)
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


def crop_box(size: tuple[int, int], *, crop_size: int, fraction: float) -> Box:
    """The crop of an image of ``size``; a side that is smaller is kept whole.

    One number in [0, 1] moves the crop along both axes, as in official training.
    """
    top, left = (round(max(side - crop_size, 0) * fraction) for side in size)
    return Box(top, left, min(top + crop_size, size[0]), min(left + crop_size, size[1]))


def pad_to_square(values: Tensor, side: int, *, fill: int) -> Tensor:
    """Fills the last two axes up to ``side``, on the right and at the bottom."""
    height, width = values.shape[-2:]
    if (height, width) == (side, side):
        return values
    square = values.new_full((*values.shape[:-2], side, side), fill)
    square[..., :height, :width] = values
    return square
