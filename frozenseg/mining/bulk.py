"""Mining many images: spread over processes, one record per image, so that it can resume."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from frozenseg.data.images import read_image
from frozenseg.data.readers.captions import CaptionedImage
from frozenseg.errors import UserError
from frozenseg.io.paths import inside
from frozenseg.io.text import one_line
from frozenseg.mining.folder import PairFolder
from frozenseg.mining.miner import Miner
from frozenseg.runtime.memory import memory_gate
from frozenseg.runtime.spread import spread

BuildMiner = Callable[[str], Miner]
"""Builds the miner for a device name; can be pickled."""


class Outcome(NamedTuple):
    """The outcome of one image."""

    made: bool  # False: the image could not be read
    problem: str | None = None  # one sentence


@dataclass(frozen=True)
class Mining:
    """The work of one process; can be pickled.

    Args:
        build: the miner.
        captioned: all images with their captions.
        images: folder of the image files.
        output: folder of the pairs.
        source: the caption file, for messages.
    """

    build: BuildMiner
    captioned: Sequence[CaptionedImage]
    images: Path
    output: Path
    source: Path

    def __call__(self, device: str) -> Callable[[int], Outcome]:
        miner, folder = self.build(device), PairFolder(self.output)
        return lambda index: self._mine(miner, folder, index)

    def _mine(self, miner: Miner, folder: PairFolder, index: int) -> Outcome:
        name, captions = self.captioned[index]
        try:
            image = read_image(inside(self.images, name, source=self.source))
            with memory_gate(name, advice="make it smaller"):
                mined = miner(image, captions)
        except UserError as error:  # must not stop the other images
            return Outcome(made=False, problem=str(error))
        problem = folder.write(index, mined).problem
        if problem is None:
            return Outcome(made=True)
        return Outcome(made=True, problem=f"{one_line(name)} gives no pair: {problem}")


def mine_images(
    mining: Mining, indices: Sequence[int], *, device: str = "auto", processes: int = 1
) -> Iterator[Outcome]:
    """Mines the images that have no record yet, and yields an outcome for each of them.

    Args:
        mining: the work.
        indices: of the images.
        device: see ``frozenseg.runtime.spread``.
        processes: number of processes.

    Raises:
        UserError: the models cannot be loaded, or a file cannot be written.
        RuntimeError: a process died.
    """
    folder = PairFolder(mining.output)
    missing = [index for index in indices if not folder.has(index)]
    if missing:
        yield from spread(mining, missing, device=device, processes=processes)
