"""Multi-scale deformable attention in plain PyTorch: what the compiled kernels must agree with.

Axes: B image, Q query, M head, C channel of one head, L level, P point, T cell of any level.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

BILINEAR, ZEROS = 0, 0  # the codes of aten::grid_sampler_2d_backward


def reference_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Each query's weighted sum of P bilinear samples per level and head (Deformable DETR, eq. 3).

    Locations (x, y) in [0, 1] cover the whole map: (0, 0) is the outer corner of the first cell,
    whose centre is (0.5 / width, 0.5 / height). What lies outside of the map counts as zero.

    Computed in the dtype of the locations, returned in the dtype of ``value``; differentiable by
    ordinary autograd.

    Args:
        value, spatial_shapes, level_start, sampling_locations, attention_weights: see
            :func:`frozenseg.ops.ms_deform_attn.ms_deform_attn`.
    """
    maps = _level_maps(value, spatial_shapes.tolist(), level_start.tolist(), sampling_locations)
    return _gather(value, maps, sampling_locations, attention_weights)


def attend_to_levels(
    value: Tensor,
    sizes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Like :func:`reference_forward`, with sizes that are known without reading a tensor.

    A graph that is traced through it holds PyTorch's own operators alone, for sizes that are
    symbols, too: exported models are made this way.

    Args:
        value: (B, T, M, C), the levels one after the other without gaps.
        sizes: (height, width) of each level.
        sampling_locations: (B, Q, M, L, P, 2).
        attention_weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M * C).
    """
    starts = [0, *accumulate(height * width for height, width in sizes)]
    maps = _level_maps(value, sizes, starts[:-1], sampling_locations)
    return _gather(value, maps, sampling_locations, attention_weights)


def _gather(
    value: Tensor, maps: Sequence[Tensor], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    batch, _, heads, channels = value.shape
    queries = sampling_locations.shape[1]
    output = sampling_locations.new_zeros(batch * heads, channels, queries)
    for level, level_map in enumerate(maps):
        samples = _sample(level_map, _grid(sampling_locations, level))
        output = output + (samples * _weights(attention_weights, level)).sum(-1)
    output = output.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)
    return output.contiguous().to(value.dtype)


def reference_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of :func:`reference_forward` for value, locations and weights.

    Written out because a backward that is itself an operator runs below autograd.

    Args:
        grad_output: gradient of the result, (B, Q, M * C).
        value, spatial_shapes, level_start, sampling_locations, attention_weights: see
            :func:`frozenseg.ops.ms_deform_attn.ms_deform_attn`.
    """
    batch, _, heads, channels = value.shape
    grad_value = sampling_locations.new_zeros(value.shape)
    grad_locations = sampling_locations.new_zeros(sampling_locations.shape)
    grad_weights = attention_weights.new_zeros(attention_weights.shape)
    grad = grad_output.to(sampling_locations.dtype).unflatten(2, (heads, channels))
    grad = grad.permute(0, 2, 3, 1).flatten(0, 1).unsqueeze(-1)  # (B M, C, Q, 1)

    starts = level_start.tolist()
    maps = _level_maps(value, spatial_shapes.tolist(), starts, sampling_locations)
    for level, (start, level_map) in enumerate(zip(starts, maps, strict=True)):
        grid = _grid(sampling_locations, level)
        by_weight = (grad * _sample(level_map, grid)).sum(1)
        by_map, by_grid = torch.ops.aten.grid_sampler_2d_backward(
            grad * _weights(attention_weights, level),
            level_map,
            grid,
            BILINEAR,
            ZEROS,
            False,
            [True, True],
        )
        grad_value[:, start : start + by_map[0, 0].numel()] += (
            by_map.flatten(2).unflatten(0, (batch, heads)).permute(0, 3, 1, 2)
        )
        grad_locations[:, :, :, level] = 2 * by_grid.unflatten(0, (batch, heads)).transpose(1, 2)
        grad_weights[:, :, :, level] = by_weight.unflatten(0, (batch, heads)).transpose(1, 2)
    return grad_value.to(value.dtype), grad_locations, grad_weights


def _level_maps(
    value: Tensor, sizes: Sequence[Sequence[int]], starts: Sequence[int], like: Tensor
) -> list[Tensor]:
    """The levels of (B, T, M, C) as images (B M, C, H, W) in the dtype of ``like``."""
    maps = []
    for start, (height, width) in zip(starts, sizes, strict=True):
        cells = value[:, start : start + height * width].to(like.dtype)
        maps.append(cells.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, (height, width)))
    return maps


def _grid(sampling_locations: Tensor, level: int) -> Tensor:
    """Locations of one level as grid_sample wants them: (B M, Q, P, 2) in [-1, 1]."""
    return 2 * sampling_locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1


def _weights(attention_weights: Tensor, level: int) -> Tensor:
    """Attention weights of one level, ready to multiply samples: (B M, 1, Q, P)."""
    return attention_weights[:, :, :, level].transpose(1, 2).flatten(0, 1).unsqueeze(1)


def _sample(level_map: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples (B M, C, Q, P), zero outside of the map."""
    return F.grid_sample(
        level_map, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
