"""Cutting masked regions out of an image and resizing them, all regions of an image at once."""

import torch
from torch import Tensor

from frozenseg.ops.maps import Size, size_of

CUBIC = -0.75  # PyTorch's coefficient of bicubic resizing


def expand_boxes(boxes: Tensor, ratio: float, size: Size) -> Tensor:
    """Scales (N, 4) boxes about their centres, truncates to pixels and clips to the image.

    Args:
        boxes: (x0, y0, x1, y1) in pixels, right and bottom exclusive.
        ratio: new side over old side.
        size: (height, width) of the image, pixels.
    """
    height, width = size
    low, high = boxes[:, :2].double(), boxes[:, 2:].double()
    centre, half = (low + high) / 2, (high - low) / 2 * ratio
    scaled = torch.cat([centre - half, centre + half], dim=1).trunc().long()
    limits = torch.tensor([width, height, width, height], device=boxes.device)
    return scaled.clamp(min=0).minimum(limits)


def masked_crops(pixels: Tensor, masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Cuts every region out, sets the pixels outside its mask to 0, and resizes it.

    Equals ``F.interpolate(crop, size, mode="bicubic")`` region by region: corners not aligned, no
    antialiasing, the border of a box repeated. The aspect ratio is not kept.

    Args:
        pixels: (C, H, W) float image; 0 is the value of the background.
        masks: (N, H, W) bool.
        boxes: (N, 4) non-empty boxes (x0, y0, x1, y1) in pixels, right and bottom exclusive.
        size: (height, width) of the crops, pixels.

    Returns:
        (N, C, height, width) crops.
    """
    width = pixels.shape[-1]
    rows, row_weights = _bicubic_taps(boxes[:, 1], boxes[:, 3], size[0])
    columns, column_weights = _bicubic_taps(boxes[:, 0], boxes[:, 2], size[1])
    image, inside = pixels.flatten(1), masks.flatten(1)
    crops = pixels.new_zeros(len(pixels), len(masks), *size)
    for i in range(4):  # 4 x 4 taps of the bicubic kernel
        line = torch.zeros_like(crops)
        for j in range(4):
            places = rows[:, :, i, None] * width + columns[:, None, :, j]
            kept = inside.gather(1, places.flatten(1)).view_as(places)
            line.addcmul_(image[:, places], kept * column_weights[:, None, :, j])
        crops.addcmul_(line, row_weights[:, :, i, None])
    return crops.transpose(0, 1)


def mask_crops(masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Cuts every mask to its box and resizes it by the nearest pixel.

    Args:
        masks: (N, H, W) bool.
        boxes: (N, 4) non-empty boxes (x0, y0, x1, y1) in pixels, right and bottom exclusive.
        size: (height, width) of the result, pixels.

    Returns:
        (N, height, width) bool.
    """
    rows = _nearest(boxes[:, 1], boxes[:, 3], size[0])
    columns = _nearest(boxes[:, 0], boxes[:, 2], size[1])
    places = rows[:, :, None] * size_of(masks)[1] + columns[:, None, :]
    return masks.flatten(1).gather(1, places.flatten(1)).view_as(places)


def _bicubic_taps(low: Tensor, high: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Returns the (N, length, 4) pixels along one axis that each output pixel sums, and weights.

    PyTorch computes places in float32, with one rounding at the end; so do we, because positions
    far from 0 are off by up to 5e-5 of a pixel and published numbers include that.
    """
    extent = (high - low)[:, None]
    output = torch.arange(length, device=low.device, dtype=torch.float64)
    source = ((extent.float() / length).double() * (output + 0.5) - 0.5).float()
    first = source.floor()
    steps = torch.arange(-1, 3, device=low.device)
    distance = ((source - first).double()[..., None] - steps).abs()
    taps = (first.long()[..., None] + steps).clamp(min=0).minimum(extent[..., None] - 1)
    return low[:, None, None] + taps, _cubic(distance).float()


def _cubic(distance: Tensor) -> Tensor:
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    return torch.where(distance <= 1, near, far)


def _nearest(low: Tensor, high: Tensor, length: int) -> Tensor:
    """Returns the (N, length) source pixels; in float32, as PyTorch rounds."""
    extent = (high - low)[:, None]
    output = torch.arange(length, device=low.device, dtype=torch.float32)
    source = (output * (extent.float() / length)).long()
    return low[:, None] + source.minimum(extent - 1)
