"""Comparison of masks at points instead of all pixels (PointRend; Mask2Former, sec. 3.3).

Points are ``(x, y)`` in [0, 1] of the padded image, so predictions at stride 4 and targets at full
size share them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Draw = Callable[[Sequence[int], torch.device], Tensor]
"""Returns uniform numbers in [0, 1) of a shape, on a device; tests replace it."""


def draw_uniform(shape: Sequence[int], device: torch.device) -> Tensor:
    """The default ``Draw``: PyTorch's generator of the device."""
    return torch.rand(tuple(shape), device=device)


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Returns (B, C, P) bilinear values of (B, C, h, w) maps at (B, P, 2) points; 0 outside."""
    grid = (2.0 * points - 1.0).unsqueeze(1)
    return F.grid_sample(maps, grid, align_corners=False).squeeze(2)


def sample_masks(masks: Tensor, mask_ids: Tensor, points: Tensor) -> Tensor:
    """Like ``sample_points`` for (T, H, W) bool masks, without converting them to float.

    Args:
        masks: (T, H, W) bool.
        mask_ids: (...,) int64, the mask of each row of points.
        points: (..., P, 2), broadcast against ``mask_ids``: masks may share points.

    Returns:
        (..., P) float32 in [0, 1].
    """
    height, width = masks.shape[-2:]
    columns = _neighbours(points[..., 0], width)
    rows = _neighbours(points[..., 1], height)
    offsets = (mask_ids * (height * width)).unsqueeze(-1)
    pixels = masks.reshape(-1)
    corners = [
        torch.take(pixels, offsets + (row * width + column)) * (row_weight * column_weight)
        for row, row_weight in rows
        for column, column_weight in columns
    ]
    return (corners[0] + corners[1]) + (corners[2] + corners[3])


def uncertain_points(
    logits: Tensor, candidates: Tensor, others: Tensor, *, num_uncertain: int
) -> Tensor:
    """Returns the candidates whose logit is nearest to zero, then the others, without gradient.

    Args:
        logits: (M, h, w) mask logits.
        candidates: (M, P', 2) random points, at least ``num_uncertain``.
        others: (M, R, 2) random points that are always used.
        num_uncertain: number of candidates that are used.

    Returns:
        (M, num_uncertain + R, 2).
    """
    with torch.no_grad():
        certainty = sample_points(logits.unsqueeze(1), candidates).squeeze(1).abs()
        chosen = certainty.topk(num_uncertain, dim=1, largest=False, sorted=False).indices
        kept = candidates.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 2))
        return torch.cat([kept, others], dim=1)


def _neighbours(
    position: Tensor, length: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns the two cells around a position in [0, 1] and their weights, 0 outside."""
    centre = position * length - 0.5
    low = centre.floor()
    fraction = centre - low
    first = low.long()
    return (
        (first.clamp(min=0), (1.0 - fraction) * (first >= 0)),
        ((first + 1).clamp(max=length - 1), fraction * (first < length - 1)),
    )
