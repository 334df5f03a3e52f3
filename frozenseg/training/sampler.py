"""Which sample is seen when: one endless stream, the same however many processes share it."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler


class Visit(NamedTuple):
    """One sample's turn in the stream."""

    index: int  # in the data set
    position: int  # in the stream, from 0: never seen twice, so random choices are seeded by it


class InfiniteSampler(Sampler[Visit]):
    """Passes over the data set without end, each shuffled anew.

    The order follows from ``seed`` alone. Process ``rank`` of ``world_size`` takes every
    ``world_size``-th visit, so that the processes together see what one process would see, in the
    same order, none twice.

    Args:
        size: of the data set.
        start: position in the shared stream to begin at; a multiple of ``world_size`` keeps
            processes in step.
    """

    def __init__(
        self, size: int, *, seed: int, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> None:
        if size < 1:
            raise ValueError(
                f"an endless stream needs at least one sample, the data set has {size}"
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
    """One 63-bit seed from several numbers, none negative; near inputs give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
