"""The endless stream of training batches."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from frozenseg.data.loading import Attempts, as_list, without_bad
from frozenseg.engine.sampler import InfiniteSampler, Visit
from frozenseg.engine.step import Batch
from frozenseg.engine.stop import end_workers_at_exit, held_back, ignore_stop_signals
from frozenseg.structures import Sample, Target

WORKER_TIMEOUT = 600  # seconds after which a batch that does not come is an error

Augment = Callable[[Sample, np.random.Generator], tuple[Tensor, Target]]


class Samples(Protocol):
    """A data set by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


class _Item(NamedTuple):
    image: Tensor
    target: Target
    name: str


class AugmentedSamples:
    """Samples as training sees them; random choices follow from ``seed`` and a visit's place."""

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
    """One process's batches, from position ``start`` of the stream that all processes share.

    Content and order depend on ``seed`` and ``start``, not on the number of workers or processes. A
    worker that dies or hangs raises a RuntimeError. A sample that cannot be read raises a UserError
    that names the file, or is left out of its batch and logged if ``skip_bad``.
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
        generator=torch.Generator().manual_seed(
            seed
        ),  # its own, so that the training's is not moved
    )
    return _good_batches(loader, skip_bad=skip_bad)


def outlasting_signals(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches; its workers neither follow a signal to the whole job nor outlast us.

    One that hangs is an error after ``WORKER_TIMEOUT``, one that dies at once.
    """
    if loader.num_workers:
        loader.timeout, loader.worker_init_fn = WORKER_TIMEOUT, ignore_stop_signals
        end_workers_at_exit()
    with held_back():
        return iter(loader)


def _good_batches(loader: DataLoader, *, skip_bad: bool) -> Iterator[Batch]:
    visits = 0
    try:
        for items in outlasting_signals(loader):
            visits += len(items)
            if good := without_bad(items, skip_bad=skip_bad):
                yield collate(good, visits=visits)
                visits = 0
    except (EOFError, ConnectionError) as error:  # a worker died while it handed a batch over
        time.sleep(1)  # PyTorch's SIGCHLD handler raises here, with more to say, rather than later
        raise RuntimeError("a DataLoader worker has died") from error


def collate(items: Sequence[_Item], *, visits: int) -> Batch:
    images, targets, names = zip(*items, strict=True)
    return Batch(list(images), list(targets), list(names), visits)
