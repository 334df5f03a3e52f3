"""Mask pooling: the mean feature under each query's mask."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_pool(features: Tensor, mask_logits: Tensor) -> Tensor:
    """Averages (B, C, h, w) features under (B, Q, H, W) masks: (B, Q, C).

    Masks are resized bilinearly to the feature size and binarised at logit 0; no gradient flows
    through them. A mask without a pixel pools to zero.
    """
    weights = binary_masks(mask_logits, features.shape[-2:]).to(features.dtype)
    area = weights.sum(dim=(-2, -1)).clamp(min=1e-8)
    return torch.einsum("bchw,bqhw->bqc", features, weights) / area[..., None]


@torch.no_grad()
def binary_masks(mask_logits: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """(B, Q, H, W) logits to (B, Q, h, w) bool masks of another size."""
    if mask_logits.shape[-2:] != tuple(size):
        mask_logits = F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False)
    return mask_logits > 0
