"""Sizes, padding and resizing of feature maps and masks; sizes are ``(height, width)``."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def size_of(maps: Tensor) -> Size:
    """Returns the height and width of a (..., h, w) tensor."""
    height, width = maps.shape[-2:]
    return height, width


def padded_size(sizes: Iterable[Size], divisibility: int) -> Size:
    """Returns the size to which images of these sizes are padded in one batch.

    Args:
        sizes: one (height, width) per image, pixels.
        divisibility: both padded sides are multiples of this, pixels.
    """
    height, width = (max(side) for side in zip(*sizes, strict=True))
    return -(-height // divisibility) * divisibility, -(-width // divisibility) * divisibility


def resize_maps(maps: Tensor, size: Size, *, mode: str = "bilinear") -> Tensor:
    """Resizes (N, h, w) or (B, C, h, w) maps; an empty batch of maps is allowed.

    Args:
        maps: feature maps, logits or probabilities.
        size: (height, width) of the result.
        mode: "bilinear" (corners not aligned) or "nearest".
    """
    # sizes of an exported graph are symbols: comparing them would restrict its input
    if not torch.compiler.is_exporting() and size_of(maps) == tuple(size):
        return maps
    if not maps.numel():
        return maps.new_zeros((*maps.shape[:-2], *size))
    batch = maps[None] if maps.dim() == 3 else maps
    corners = {} if mode == "nearest" else {"align_corners": False}
    resized = F.interpolate(batch, size=tuple(size), mode=mode, **corners)
    return resized[0] if maps.dim() == 3 else resized
