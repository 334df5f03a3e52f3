"""Masks of proposals at the size of the image."""

from torch import Tensor

from frozenseg.ops.maps import Size, resize_maps
from frozenseg.structures import Proposals


def image_masks(proposals: Proposals) -> Tensor:
    """Returns (Q, H, W) mask logits over the image, without padding, at the frame's size."""
    height, width = proposals.frame.image_size
    return resize_maps(proposals.mask_logits, proposals.frame.size)[:, :height, :width]


def masks_at(proposals: Proposals, size: Size) -> Tensor:
    """Returns (Q, H, W) mask logits over the image, without padding, resized to ``size``."""
    return resize_maps(image_masks(proposals), size)
