"""Masks of queries at the size of a result, of which one tile is in memory at a time.

A tile fits into the processor's cache and covers few cells of the masks. Which queries matter in it
follows from the extremes of these cells before anything is resized, so the work depends on what the
image shows.
"""

import math
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from frozenseg.ops.maps import Size, size_of
from frozenseg.ops.precision import full_precision
from frozenseg.ops.tiles import Resize, Tiling
from frozenseg.structures import Proposals

SLACK = 1e-4  # of every bound: far more than float32 loses in a resize and a sigmoid

CELLS = 8  # of a mask, along the side of a tile
LEAST_SIDE = 64  # of a tile, pixels
TILE_VALUES = 2**24  # of all maps in a tile, at most; GPUs get tiles of this size


class Range(NamedTuple):
    """Bounds of the mask logits of each query in each tile."""

    low: Tensor  # (Q, T)
    high: Tensor  # (Q, T)


class TiledMasks:
    """(Q, H, W) mask logits, resized tile by tile.

    Args:
        logits: (Q, h, w), at the size at which they were predicted.
        resize: to the size of the result.
    """

    def __init__(self, logits: Tensor, resize: Resize) -> None:
        self.logits, self.resize = full_precision(logits), resize
        self.tiling, self._cells = resize.tiling, list(resize.reads)

    def __call__(self, tile: int, queries: Tensor | None = None) -> Tensor:
        """Returns the (n, H', W') logits of some queries, or of all, in a tile."""
        cells = self.logits[:, *self._cells[tile]]
        return self.resize(cells if queries is None else cells.index_select(0, queries), tile)

    @cached_property
    def range(self) -> Range:
        """Bounds in every tile: a resized value lies between the cells that it is made of."""
        rows, columns = self.resize.rows, self.resize.columns
        extremes = [self.logits[:, run.source].aminmax(dim=1) for run in rows]
        low, high = (torch.stack(each, dim=1) for each in zip(*extremes, strict=True))
        lows = [low[..., run.source].amin(dim=-1) for run in columns]
        highs = [high[..., run.source].amax(dim=-1) for run in columns]
        return Range(*(torch.stack(each, dim=-1).flatten(1) for each in (lows, highs)))

    def inside(self, queries: Tensor | None = None) -> Tensor:
        """Returns the (n, H, W) bool masks of n queries, which may repeat, or of all."""
        if queries is None:
            queries = torch.arange(len(self.logits), device=self.logits.device)
        size = self.tiling.size
        masks = torch.zeros(len(queries), *size, dtype=torch.bool, device=self.logits.device)
        shown = pick(self.range.high[queries] > -SLACK)
        for tile, ((rows, columns), places) in enumerate(zip(self.tiling, shown, strict=True)):
            masks[places, rows, columns] = self(tile, queries[places]) > 0
        return masks


def resized(logits: Tensor, size: Size, tiling: Tiling) -> TiledMasks:
    """Returns (Q, h, w) mask logits resized to ``size``, in the tiles of other masks."""
    resize = Resize.between(size_of(logits), size, tiling, device=logits.device)
    return TiledMasks(logits, resize)


def whole_masks(logits: Tensor) -> TiledMasks:
    """Returns (Q, H, W) mask logits that have the size of the result already."""
    size = size_of(logits)
    return resized(logits, size, Tiling.of(size, LEAST_SIDE))


def resize_of_masks(proposals: Proposals, tiling: Tiling) -> Resize:
    """Returns the resize of masks to the frame that they cover, for tiles of the image in it."""
    masks = proposals.mask_logits
    return Resize.between(size_of(masks), proposals.frame.size, tiling, device=masks.device)


def resize_of_image(proposals: Proposals, size: Size, *, num_classes: int) -> Resize:
    """Returns the resize of the image in its frame to ``size``.

    Its tiles cover about ``CELLS`` x ``CELLS`` cells of the masks.
    """
    masks, image_size = proposals.mask_logits, proposals.frame.image_size
    side = math.isqrt(TILE_VALUES // max(len(masks), num_classes))
    if not masks.is_cuda:
        cells = (masks.shape[i + 1] * image_size[i] / proposals.frame.size[i] for i in range(2))
        scale = max(pixels / each for pixels, each in zip(size, cells, strict=True))
        side = min(side, math.ceil(CELLS * scale))
    tiling = Tiling.of(size, max(side, LEAST_SIDE))
    return Resize.between(image_size, size, tiling, device=masks.device)


def pick(needed: Tensor) -> list[Tensor]:
    """Returns the indices of the rows that each column of (N, T) bool values needs.

    On a GPU every column gets the rows that any column needs: the host would have to wait for the
    number of each.
    """
    if needed.is_cuda:
        return [needed.any(dim=1).nonzero()[:, 0]] * needed.shape[1]
    return [each.nonzero()[:, 0] for each in needed.T.contiguous()]


def first_argmax(values: Tensor) -> Tensor:
    """Returns ``argmax(dim=0)`` of (N, H, W) values, the first of equal ones, in less time."""
    best = values.amax(dim=0)
    ranks = torch.arange(len(values), 0, -1, dtype=values.dtype, device=values.device)
    is_best = torch.eq(values, best, out=torch.empty_like(values))
    rank = is_best.mul_(ranks[:, None, None]).amax(dim=0)
    return (len(values) - rank).long().clamp(max=len(values) - 1)  # NaN equals nothing
