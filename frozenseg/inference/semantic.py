"""Semantic output: a score for every class at every pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor


def class_maps(class_probs: Tensor, mask_probs: Tensor) -> Tensor:
    """Sums (Q, H, W) mask probabilities by their (Q, K + 1) class probabilities: (K, H, W).

    Void has no map: every pixel gets a class.
    """
    return torch.einsum("qk,qhw->khw", class_probs[:, :-1], mask_probs)


def resized_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) maps at another size, bilinearly; there may be none."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if not len(maps):
        return maps.new_zeros((0, *size))
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
