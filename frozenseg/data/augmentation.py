"""How pictures are scaled, flipped and cropped, for training and for tests.

The recipe is that of Mask2Former on COCO panoptic: flip, large-scale jitter, fixed crop. Random
choices come from the generator that is handed in, always the same number of them.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PADDING_VALUE = 128  # of every channel, beside a picture that is smaller than the crop
NO_SEGMENT = -1  # in id maps, beside the picture


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


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) uint8 to ``size`` (height, width), at least 1 x 1, by Pillow's bilinear filter."""
    height, width = max(size[0], 1), max(size[1], 1)
    if (height, width) == tuple(image.shape[-2:]):
        return image
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    resized = np.array(picture.resize((width, height), Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).permute(2, 0, 1).contiguous()


def resize_ids(ids: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) int32 ids to ``size``, each pixel one of the nearest."""
    height, width = max(size[0], 1), max(size[1], 1)
    if (height, width) == tuple(ids.shape):
        return ids
    picture = Image.fromarray(ids.numpy().astype(np.int32, copy=False))
    return torch.from_numpy(np.array(picture.resize((width, height), Image.Resampling.NEAREST)))


def jittered_size(size: tuple[int, int], *, crop_size: int, scale: float) -> tuple[int, int]:
    """The size that fits a picture into a square of ``crop_size * scale`` pixels, aspect kept."""
    factor = crop_size * scale / max(size)
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


def crop_offset(size: tuple[int, int], *, crop_size: int, fraction: float) -> tuple[int, int]:
    """Where the crop begins (y, x); one number in [0, 1] moves both, as official training does."""
    y, x = (round(max(side - crop_size, 0) * fraction) for side in size)
    return y, x


def crop_and_pad(values: Tensor, offset: tuple[int, int], *, crop_size: int, fill: int) -> Tensor:
    """A square of the last two axes from ``offset`` on, filled up on the right and below."""
    y, x = offset
    crop = values[..., y : y + crop_size, x : x + crop_size]
    if crop.shape[-2:] == (crop_size, crop_size):
        return crop
    square = values.new_full((*values.shape[:-2], crop_size, crop_size), fill)
    square[..., : crop.shape[-2], : crop.shape[-1]] = crop
    return square
