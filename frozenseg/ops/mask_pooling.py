"""Mask pooling: the mean feature under each query's mask."""

from typing import Any

import torch
from torch import Tensor

from frozenseg.ops.maps import resize_maps


def mask_pool(features: Tensor, mask_logits: Tensor) -> Tensor:
    """Averages (B, C, h, w) features under (B, Q, H, W) masks: (B, Q, C).

    Masks are resized bilinearly to the feature size and binarised at logit 0; no gradient flows
    through them. A mask without a pixel pools to zero.
    """
    masks = binary_masks(mask_logits, features.shape[-2:])
    area = masks.sum(dim=(-2, -1), dtype=features.dtype).clamp(min=1e-8)
    return _MaskedSum.apply(features, masks) / area[..., None]


@torch.no_grad()
def binary_masks(mask_logits: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """(B, Q, H, W) logits to (B, Q, h, w) bool masks of another size."""
    height, width = size
    return resize_maps(mask_logits, (height, width)) > 0


class _MaskedSum(torch.autograd.Function):
    """Sums (B, C, h, w) features under (B, Q, h, w) bool masks: (B, Q, C).

    Keeps the masks as bool for the backward pass, a quarter of what the matrix product would keep.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, masks: Tensor) -> Tensor:
        ctx.save_for_backward(masks)
        return torch.einsum("bchw,bqhw->bqc", features, masks.to(features.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (masks,) = ctx.saved_tensors
        return torch.einsum("bqc,bqhw->bchw", grad, masks.to(grad.dtype)), None
