"""SAM masks of many images: spread over processes, one file per image, so that it can resume."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from frozenseg.data.catalog import dataset_samples
from frozenseg.data.images import read_image
from frozenseg.data.readers.samples import DatasetSamples
from frozenseg.errors import UserError
from frozenseg.runtime.memory import OutOfMemory, memory_gate
from frozenseg.runtime.spread import spread
from frozenseg.sam_masks.cache import CachedMasks

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
    yield from spread(_Maker(build, images), indices, device=device, processes=processes)


@dataclass(frozen=True)
class _Maker:
    """Builds the work of one process; can be pickled."""

    build: BuildMasks
    images: Images

    def __call__(self, device: str) -> Callable[[int], Outcome]:
        masks = self.build(device)
        return lambda index: _outcome(masks, self.images, index)


def _outcome(masks: CachedMasks, images: Images, index: int) -> Outcome:
    try:
        image = images[index]
    except UserError as error:  # must not stop the other images
        return Outcome(index, made=False, problem=str(error))
    try:
        with memory_gate(images.name(index), advice="make it smaller"):
            return Outcome(index, made=masks.complete(image))
    except OutOfMemory as error:
        return Outcome(index, made=False, problem=str(error))
