"""The infinite stream of training batches."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from frozenseg.data.loading import Attempts, Samples, as_list, without_bad
from frozenseg.runtime.workers import start_workers
from frozenseg.structures import Sample, Target
from frozenseg.training.sampler import InfiniteSampler, Visit
from frozenseg.training.step import Batch

Augment = Callable[[Sample, np.random.Generator], tuple[Tensor, Target]]


class _Item(NamedTuple):
    image: Tensor
    target: Target
    name: str


class AugmentedSamples:
    """Augmented samples; all random choices are determined by the seed and the visit's position."""

    def __init__(self, samples: Samples, *, augment: Augment, seed: int) -> None:
        self.samples, self.augment, self.seed = samples, augment, seed

    def __call__(self, visit: Visit) -> _Item:
        sample = self.samples[visit.index]
        generator = np.random.default_rng((self.seed, visit.position))
        image, target = self.augment(sample, generator)
        return _Item(image, target, sample.file_name or str(sample.image_id))


def training_batches(
    samples: Samples,
    *,
    augment: Augment,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
    skip_bad: bool = False,
) -> Iterator[Batch]:
    """Yields one process's batches of the stream that all processes share.

    Content and order depend on ``seed`` and ``start``, not on the number of workers or processes.

    Args:
        samples: the data set.
        augment: maps a sample and a random generator to an image (3, H, W) and its target.
        batch_size: images per batch of this process.
        seed: of order and augmentation.
        rank: of this process.
        world_size: number of processes.
        start: position in the shared stream to begin at.
        num_workers: processes that read samples; 0: this one.
        pin_memory: copy batches to page-locked memory.
        skip_bad: leave out samples that cannot be read, and log them.

    Raises:
        UserError: a sample cannot be read and ``skip_bad`` is off; the file is named.
        RuntimeError: a worker died or hangs.
    """
    loader = DataLoader(
        Attempts(AugmentedSamples(samples, augment=augment, seed=seed)),
        batch_size=batch_size,
        sampler=InfiniteSampler(
            len(samples), seed=seed, rank=rank, world_size=world_size, start=start
        ),
        num_workers=num_workers,
        collate_fn=as_list,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(seed),  # leaves the training's generator unchanged
    )
    return _good_batches(loader, skip_bad=skip_bad)


def _good_batches(loader: DataLoader, *, skip_bad: bool) -> Iterator[Batch]:
    visits = 0
    try:
        for items in start_workers(loader):
            visits += len(items)
            if good := without_bad(items, skip_bad=skip_bad):
                yield collate(good, visits=visits)
                visits = 0
    except (EOFError, ConnectionError) as error:  # a worker died while sending a batch
        time.sleep(1)  # lets PyTorch's SIGCHLD handler raise its more detailed error here
        raise RuntimeError("a DataLoader worker has died") from error


def collate(items: Sequence[_Item], *, visits: int) -> Batch:
    """Joins items to a batch; ``visits`` counts the bad samples that were left out, too."""
    images, targets, names = zip(*items, strict=True)
    return Batch(list(images), list(targets), list(names), visits)
