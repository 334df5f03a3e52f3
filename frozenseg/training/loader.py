"""The infinite stream of training batches."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

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


Item = TypeVar("Item")
AnyBatch = TypeVar("AnyBatch")


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
    return batch_stream(
        AugmentedSamples(samples, augment=augment, seed=seed),
        collate,
        order=InfiniteSampler(
            len(samples), seed=seed, rank=rank, world_size=world_size, start=start
        ),
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=pin_memory,
        skip_bad=skip_bad,
    )


def batch_stream(
    read: Callable[[Visit], Item],
    join: Callable[[Sequence[Item], int], AnyBatch],
    *,
    order: InfiniteSampler,
    batch_size: int,
    num_workers: int = 0,
    pin_memory: bool = False,
    skip_bad: bool = False,
) -> Iterator[AnyBatch]:
    """Yields one process's batches of any kind of samples.

    Args:
        read: reads the sample of a visit and augments it.
        join: makes a batch of samples and the number of visits that they took.
        order: of the visits; its seed also seeds the workers.
        batch_size: samples per batch of this process.
        num_workers, pin_memory, skip_bad: see ``training_batches``.
    """
    loader = DataLoader(
        Attempts(read),
        batch_size=batch_size,
        sampler=order,
        num_workers=num_workers,
        collate_fn=as_list,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(
            order.seed
        ),  # leaves the training's generator unchanged
    )
    return _good_batches(loader, join, skip_bad=skip_bad)


def _good_batches(
    loader: DataLoader, join: Callable[[Sequence[Any], int], AnyBatch], *, skip_bad: bool
) -> Iterator[AnyBatch]:
    visits = 0
    try:
        for items in start_workers(loader):
            visits += len(items)
            if good := without_bad(items, skip_bad=skip_bad):
                yield join(good, visits)
                visits = 0
    except (EOFError, ConnectionError) as error:  # a worker died while sending a batch
        time.sleep(1)  # lets PyTorch's SIGCHLD handler raise its more detailed error here
        raise RuntimeError("a DataLoader worker has died") from error


def collate(items: Sequence[_Item], visits: int) -> Batch:
    """Joins items to a batch; ``visits`` counts the bad samples that were left out, too."""
    images, targets, names = zip(*items, strict=True)
    return Batch(list(images), list(targets), list(names), visits)
