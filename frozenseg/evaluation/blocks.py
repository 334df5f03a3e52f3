"""Finished blocks of an evaluation on disk: for resuming, and to combine several processes."""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from frozenseg.errors import UserError
from frozenseg.io.array_files import read_arrays, write_arrays
from frozenseg.io.writing import write_text
from frozenseg.runtime.distributed import gather_objects, is_main_process, share_text

logger = logging.getLogger(__name__)

KEY = "key.json"
Arrays = Mapping[str, np.ndarray]


class BlockStore:
    """Arrays of each finished block of samples, one file with a digest per block.

    Blocks that cannot be written (full or read-only disk) are kept in memory: the evaluation
    finishes, but cannot be resumed from them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._on_disk = True
        self._in_memory: dict[int, Arrays] = {}

    def open(self, key: str, *, resume: bool) -> None:
        """Keeps the blocks of an interrupted evaluation with the same key, else clears. Collective.

        Args:
            key: identifies weights, configuration and data set.
            resume: False always clears.
        """
        writable = self._prepare(key, resume=resume) if is_main_process() else None
        self._on_disk = share_text("yes" if writable else None) is not None

    def has(self, block: int) -> bool:
        """Returns True if the block is finished; a damaged file is logged and does not count."""
        path = self._path(block)
        if not self._on_disk or not path.exists():
            return False
        try:
            read_arrays(path)
        except UserError as error:
            logger.warning("%s; the block is evaluated again", error)
            return False
        return True

    def save(self, block: int, arrays: Arrays) -> None:
        if self._on_disk:
            try:
                write_arrays(arrays, self._path(block))
                return
            except (OSError, UserError) as error:
                logger.warning("%s; the block stays in memory and cannot be resumed", error)
        self._in_memory[block] = arrays

    def gather(self) -> None:
        """Gives every process the blocks that others could not write. Collective."""
        for blocks in gather_objects(self._in_memory):
            self._in_memory |= blocks

    def load(self, block: int) -> Arrays:
        """Returns the arrays of a finished block.

        Raises:
            UserError: the file is missing or damaged.
        """
        if block in self._in_memory:
            return self._in_memory[block]
        try:
            return read_arrays(self._path(block))
        except UserError as error:
            raise UserError(
                f"{error}; the same command with --resume evaluates it again"
            ) from error

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _prepare(self, key: str, *, resume: bool) -> bool:
        note, text = self.folder / KEY, json.dumps(key)
        try:
            if resume and note.is_file() and note.read_bytes() == text.encode():
                found = len(list(self.folder.glob("[0-9]*.npz")))
                logger.info("%s: resuming after %d finished blocks", self.folder, found)
                return True
            shutil.rmtree(self.folder, ignore_errors=True)
            write_text(note, text)
        except (OSError, UserError) as error:
            logger.warning("%s; this evaluation cannot be resumed", error)
            return False
        return True

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.npz"
