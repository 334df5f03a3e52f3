"""The order of training samples: one infinite stream, independent of the number of processes."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler


class Visit(NamedTuple):
    """One element of the stream."""

    index: int  # in the data set
    position: int  # in the stream, from 0; unique, so it seeds the augmentation


class InfiniteSampler(Sampler[Visit]):
    """Infinite passes over the data set, each in a new random order.

    The seed alone determines the order. Process ``rank`` takes every ``world_size``-th visit, so
    the processes together see each visit of the single-process stream exactly once.

    Args:
        size: of the data set.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
        start: position in the shared stream to begin at, a multiple of ``world_size``.

    Raises:
        ValueError: the data set is empty.
    """

    def __init__(
        self, size: int, *, seed: int, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> None:
        if size < 1:
            raise ValueError(
                f"an infinite stream needs at least one sample, the data set has {size}"
            )
        self.size, self.seed = size, seed
        self.rank, self.world_size, self.start = rank, world_size, start

    def __iter__(self) -> Iterator[Visit]:
        order, current_pass = None, -1
        for position in count(self.start + self.rank, self.world_size):
            which_pass, place = divmod(position, self.size)
            if order is None or which_pass != current_pass:
                order, current_pass = self._order(which_pass), which_pass
            yield Visit(int(order[place]), position)

    def _order(self, which_pass: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, which_pass))
        return torch.randperm(self.size, generator=generator)


def mixed_seed(*numbers: int) -> int:
    """Returns a 63-bit seed from non-negative numbers; similar numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
