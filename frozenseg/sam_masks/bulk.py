"""SAM's masks of many images: spread over processes, kept one by one, so that it can go on."""

import queue
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.multiprocessing as mp
from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.builders.sam_masks import build_mask_cache, build_mask_source
from frozenseg.data.catalog import dataset_samples
from frozenseg.data.images import read_image
from frozenseg.data.readers.samples import DatasetSamples
from frozenseg.errors import UserError
from frozenseg.runtime.launch import share_cores

POLL_SECONDS = 2.0  # between looks at whether the processes still live


class Images(Protocol):
    """(3, H, W) uint8 images by index, with names for messages; can be sent to a process."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Tensor: ...
    def name(self, index: int) -> str: ...


class ImageFiles:
    """Images that are files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return read_image(self.paths[index])

    def name(self, index: int) -> str:
        return str(self.paths[index])


class DatasetImages:
    """The images of a data set; its annotations are read only for the list of images."""

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
    """What became of one image."""

    index: int
    made: bool  # False: its masks were there already, or it could not be read
    problem: str | None = None  # one sentence


def make_masks(
    cfg: CfgNode, images: Images, indices: Sequence[int], *, processes: int = 1
) -> Iterator[Outcome]:
    """Makes the masks that the configured cache does not hold; an outcome for each image.

    With several processes outcomes come as they are ready. On CUDA each takes the next device, on
    the CPU they share its cores.

    Raises:
        UserError: SAM cannot be loaded, or the cache holds masks made otherwise.
        RuntimeError: a process died.
    """
    if processes == 1:
        yield from _made(cfg, images, indices)
        return
    context = mp.get_context("spawn")
    outcomes = context.Queue()
    workers = [
        context.Process(
            target=_work,
            args=(cfg, images, indices[rank::processes], rank, processes, outcomes),
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


def _made(cfg: CfgNode, images: Images, indices: Sequence[int]) -> Iterator[Outcome]:
    cache, source = build_mask_cache(cfg), build_mask_source(cfg)
    for index in indices:
        try:
            image = images[index]
        except UserError as error:  # the other images have nothing to do with it
            yield Outcome(index, made=False, problem=str(error))
            continue
        known = cache.has(image)
        source(image)  # one that is there is read, so that a stale one is refused now
        yield Outcome(index, made=not known)


def _work(
    cfg: CfgNode, images: Images, indices: Sequence[int], rank: int, processes: int, outcomes
) -> None:
    """One process: an outcome, or the sentence of a mistake, for each image."""
    share_cores(processes)
    cfg = cfg.clone()
    cfg.defrost()
    if cfg.MODEL.DEVICE in ("auto", "cuda") and torch.cuda.is_available():
        cfg.MODEL.DEVICE = f"cuda:{rank % torch.cuda.device_count()}"
    try:
        for outcome in _made(cfg, images, indices):
            outcomes.put(outcome)
    except UserError as error:
        outcomes.put(error)
    except Exception:  # crosses a process boundary as text
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
                    f"a process ended with status {dead[0].exitcode}: its memory may not suffice; "
                    "start again with fewer --processes, what is made is kept"
                ) from None
            continue
        if isinstance(outcome, Exception):
            raise outcome
        found += 1
        yield outcome
