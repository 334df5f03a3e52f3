"""Semantic output: a score for every class at every pixel."""

import torch
from torch import Tensor


def class_maps(class_probs: Tensor, mask_probs: Tensor) -> Tensor:
    """Sums (Q, H, W) mask probabilities by their (Q, K + 1) class probabilities: (K, H, W).

    Void has no map: every pixel gets a class.
    """
    return torch.einsum("qk,qhw->khw", class_probs[:, :-1], mask_probs)
