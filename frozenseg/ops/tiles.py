"""Bilinear resizing tile by tile, so that the resized maps never exist as a whole.

Resizing is linear and acts on rows and columns separately. A run of positions along one axis is a
small matrix of weights times the few source positions that it reads, and two resizings in a row are
the product of their matrices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor

from frozenseg.ops.maps import Size

Area = tuple[slice, slice]
"""Rows and columns of a map."""


@dataclass(frozen=True)
class Tiling:
    """Tiles of a map: every run of rows with every run of columns, row by row."""

    rows: Sequence[slice]
    columns: Sequence[slice]

    @classmethod
    def of(cls, size: Size, side: int) -> "Tiling":
        """Cuts a map into tiles of ``side`` x ``side`` pixels, smaller at the right and bottom."""
        return cls(*(_cut(length, side) for length in size))

    def __iter__(self) -> Iterator[Area]:
        return product(self.rows, self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def size(self) -> Size:
        """Height and width of the map, pixels."""
        return self.rows[-1].stop, self.columns[-1].stop

    @property
    def num_pixels(self) -> Tensor:
        """(T,) pixels of each tile."""
        heights, widths = (
            torch.tensor([run.stop - run.start for run in runs])
            for runs in (self.rows, self.columns)
        )
        return torch.outer(heights, widths).flatten()


class Run(NamedTuple):
    """Consecutive positions along an axis, as weighted sums of consecutive source positions."""

    source: slice
    weights: Tensor  # (positions, source positions)

    def of(self, earlier: "Run") -> "Run":
        """Returns this run as sums of what ``earlier``, which makes its source, reads."""
        return Run(earlier.source, self.weights @ earlier.weights)


class Resize:
    """A bilinear resize of (N, h, w) maps, one tile at a time (corners not aligned).

    Args:
        tiling: tiles of the result.
        rows, columns: their positions.
    """

    def __init__(self, tiling: Tiling, rows: Sequence[Run], columns: Sequence[Run]) -> None:
        self.tiling, self.rows, self.columns = tiling, rows, columns

    @classmethod
    def between(
        cls, source: Size, target: Size, tiling: Tiling, *, device: torch.device
    ) -> "Resize":
        """Returns the resize from one size to another, for tiles of the target."""
        rows, columns = (
            [bilinear_run(run, cells, positions, device=device) for run in runs]
            for runs, cells, positions in zip(
                (tiling.rows, tiling.columns), source, target, strict=True
            )
        )
        return cls(tiling, rows, columns)

    @property
    def reads(self) -> Tiling:
        """The part of the source that each tile reads; parts overlap."""
        return Tiling([run.source for run in self.rows], [run.source for run in self.columns])

    def after(self, earlier: "Resize") -> "Resize":
        """Returns both resizes in one; the tiles of ``earlier`` are those that this one reads."""
        rows, columns = (
            [run.of(first) for run, first in zip(*runs, strict=True)]
            for runs in ((self.rows, earlier.rows), (self.columns, earlier.columns))
        )
        return Resize(self.tiling, rows, columns)

    def __call__(self, part: Tensor, tile: int) -> Tensor:
        """Returns the (N, H', W') pixels of a tile from the (N, h', w') part that it reads."""
        row, column = divmod(tile, len(self.columns))
        rows, columns = self.rows[row].weights, self.columns[column].weights
        return rows.to(part.dtype) @ (part @ columns.to(part.dtype).T)


def bilinear_run(positions: slice, source: int, target: int, *, device: torch.device) -> Run:
    """Returns positions of an axis of ``source`` cells that is resized to ``target`` cells.

    The weights are those of ``F.interpolate``.
    """
    centres = (torch.arange(positions.start, positions.stop) + 0.5) * (source / target) - 0.5
    centres.clamp_(min=0)
    low = centres.long().clamp(max=source - 1)
    high = (low + 1).clamp(max=source - 1)
    share = (centres - low).clamp(0, 1)
    first, last = int(low[0]), int(high[-1]) + 1
    weights = torch.zeros(len(centres), last - first)
    weights.scatter_add_(1, (low - first)[:, None], (1 - share)[:, None])
    weights.scatter_add_(1, (high - first)[:, None], share[:, None])
    return Run(slice(first, last), weights.to(device))


def _cut(length: int, side: int) -> list[slice]:
    edges = [*range(0, length, side), length]
    return [slice(*pair) for pair in pairwise(edges)]
