"""SAM masks of many images: spread over processes, one file per image, so that it can resume."""

import queue
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.multiprocessing as mp
from torch import Tensor

from frozenseg.data.catalog import dataset_samples
from frozenseg.data.images import read_image
from frozenseg.data.readers.samples import DatasetSamples
from frozenseg.errors import UserError
from frozenseg.runtime.launch import share_cores
from frozenseg.sam_masks.cache import CachedMasks

POLL_SECONDS = 2.0  # between checks that the processes are alive

BuildMasks = Callable[[str], CachedMasks]
"""Builds the masks' cache and source for a device name; can be pickled."""


class Images(Protocol):
    """(3, H, W) uint8 images by index, with names for messages; can be pickled."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Tensor: ...
    def name(self, index: int) -> str: ...


class ImageFiles:
    """Images in files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return read_image(self.paths[index])

    def name(self, index: int) -> str:
        return str(self.paths[index])


class DatasetImages:
    """The images of a registered data set; annotations are read only for the list of images.

    Args:
        dataset: registered name.
        root: folder of all data sets; None: the default.
    """

    def __init__(self, dataset: str, *, root: Path | None = None) -> None:
        self.dataset = dataset
        self.samples = dataset_samples(dataset, root=root, tasks=())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Tensor:
        if isinstance(self.samples, DatasetSamples):
            return self.samples.read_pixels(index)
        return self.samples[index].image

    def name(self, index: int) -> str:
        return f"{self.dataset} {index}"


class Outcome(NamedTuple):
    """The outcome of one image."""

    index: int
    made: bool  # False: the masks existed, or the image could not be read
    problem: str | None = None  # one sentence


def make_masks(
    build: BuildMasks,
    images: Images,
    indices: Sequence[int],
    *,
    device: str = "auto",
    processes: int = 1,
) -> Iterator[Outcome]:
    """Creates the masks that the cache does not hold, and yields an outcome per image.

    Args:
        build: called in each process with the name of its device.
        images: the images.
        indices: of the images to process.
        device: "auto" and "cuda" give each of several processes the next CUDA device; on the CPU
            they share its cores.
        processes: number of processes; the outcomes of several come in any order.

    Raises:
        UserError: SAM cannot be loaded, the cache holds masks with other settings, or masks cannot
            be written.
        RuntimeError: a process died.
    """
    if processes == 1:
        yield from _outcomes(build(device), images, indices)
        return
    context = mp.get_context("spawn")
    outcomes = context.Queue()
    workers = [
        context.Process(
            target=_work,
            args=(build, images, indices[rank::processes], device, rank, processes, outcomes),
            daemon=True,
        )
        for rank in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        yield from _gathered(outcomes, workers, len(indices))
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _outcomes(masks: CachedMasks, images: Images, indices: Sequence[int]) -> Iterator[Outcome]:
    for index in indices:
        try:
            image = images[index]
        except UserError as error:  # must not stop the other images
            yield Outcome(index, made=False, problem=str(error))
        else:
            yield Outcome(index, made=masks.complete(image))


def _work(
    build: BuildMasks,
    images: Images,
    indices: Sequence[int],
    device: str,
    rank: int,
    processes: int,
    outcomes,
) -> None:
    """Runs one process, which sends an outcome for each image, or an error."""
    share_cores(processes)
    if device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{rank % torch.cuda.device_count()}"
    try:
        for outcome in _outcomes(build(device), images, indices):
            outcomes.put(outcome)
    except UserError as error:
        outcomes.put(error)
    except Exception:  # crosses the process boundary as text
        outcomes.put(RuntimeError(traceback.format_exc()))


def _gathered(outcomes, workers: Sequence[BaseProcess], expected: int) -> Iterator[Outcome]:
    found = 0
    while found < expected:
        try:
            outcome = outcomes.get(timeout=POLL_SECONDS)
        except queue.Empty:
            dead = [worker for worker in workers if worker.exitcode]
            if dead:
                raise RuntimeError(
                    f"a process ended with status {dead[0].exitcode}, perhaps for lack of memory: "
                    "run the command again with fewer --processes; finished masks are kept"
                ) from None
            continue
        if isinstance(outcome, Exception):
            raise outcome
        found += 1
        yield outcome
