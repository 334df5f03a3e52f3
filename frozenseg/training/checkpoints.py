"""Checkpoints: the trained weights, and the state that a run needs to resume exactly."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.files import TEMPORARY_PREFIX, atomic_write
from frozenseg.io.gates import parser_gate, reason_of
from frozenseg.io.safetensors_files import read_safetensors, write_safetensors
from frozenseg.io.text import quoted
from frozenseg.io.writing import disk_gate, optional_file, write_text

logger = logging.getLogger(__name__)

FINAL_WEIGHTS = "model_final.safetensors"
FORMAT = "frozenseg-checkpoint-2"
WEIGHTS = "weights.safetensors"
TRAINING = "training.safetensors"
POINTER = "last_checkpoint"  # beside the folder of checkpoints, as Detectron2 names it


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after ``iteration`` updates.

    Args:
        iteration: number of updates.
        weights: the model's trainable state, and towers that belong to it.
        about: what the weights belong to: towers, configuration, seed.
        training: tensors of the optimizer and the random generators.
        numbers: other state that JSON can hold.
    """

    iteration: int
    weights: Mapping[str, Tensor]
    about: Mapping[str, str]
    training: Mapping[str, Tensor]
    numbers: Mapping[str, Any]


class CheckpointFolder:
    """The last ``keep`` checkpoints of a run, each a folder of two safetensors files.

    A checkpoint appears under its name only when it is completely on disk; older ones are deleted
    after that.

    Args:
        folder: for the checkpoints.
        keep: number of checkpoints, at least 1.
    """

    def __init__(self, folder: Path, *, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder, self.keep = folder, keep

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint, updates the pointer and deletes the oldest beyond ``keep``.

        Raises:
            UserError: the checkpoint cannot be written; earlier ones are unchanged.
        """
        path = self.path(checkpoint.iteration)
        try:
            with _atomic_folder(path) as part:
                _write(checkpoint, part)
            write_text(self.folder.parent / POINTER, f"{self.folder.name}/{path.name}\n")
        except (OSError, UserError) as error:
            raise UserError(
                f"checkpoint {path} cannot be written ({reason_of(error)}): free some space, then "
                "--resume"
            ) from error
        before = [each for each in self.paths() if int(each.name) < checkpoint.iteration]
        with optional_file("deleting an old checkpoint"):
            for old in before[self.keep - 1 :]:
                shutil.rmtree(old)
        return path

    def path(self, iteration: int) -> Path:
        return self.folder / f"{iteration:07d}"

    def paths(self) -> list[Path]:
        """Returns the checkpoints, newest first; renamed copies do not count."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        own = (path for path in found if path.name.isdecimal() and path.is_dir())
        return sorted(own, key=lambda path: int(path.name), reverse=True)

    def newest_path(self) -> Path | None:
        """Returns the path of the newest undamaged checkpoint."""
        return next((path for path, _ in self._undamaged()), None)

    def newest(self) -> Checkpoint | None:
        """Returns the newest undamaged checkpoint; damaged ones are logged."""
        return next((checkpoint for _, checkpoint in self._undamaged()), None)

    def _undamaged(self) -> Iterator[tuple[Path, Checkpoint]]:
        for path in self.paths():
            try:
                checkpoint = read_checkpoint(path)
            except UserError as error:
                logger.warning("%s cannot be read (%s): trying the previous one", path, error)
            else:
                yield path, checkpoint


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads both files of one checkpoint and checks their digests.

    Raises:
        UserError: a file is missing, damaged or of another format.
    """
    weights, about = read_safetensors(path / WEIGHTS)
    training, notes = read_safetensors(path / TRAINING)
    if notes.get("format") != FORMAT:
        raise UserError(
            f"{path} has the format {quoted(notes.get('format'))}, expected {FORMAT}: start a new "
            "run"
        )
    if about.get("iteration") != notes.get("iteration"):
        raise UserError(f"{path} has files of two checkpoints: use another one")
    with parser_gate(path, expected="a checkpoint", advice="use another one"):
        iteration, numbers = int(notes["iteration"]), dict(json.loads(notes["numbers"]))
    return Checkpoint(iteration, weights, about, training, numbers)


def publish_weights(checkpoint: Path, path: Path) -> None:
    """Copies a checkpoint's weights to a file that rotation does not delete.

    Raises:
        UserError: the file cannot be written.
    """
    with disk_gate(path), atomic_write(path) as part:
        shutil.copyfile(checkpoint / WEIGHTS, part)


def check_same_towers(saved: Mapping[str, str], present: Mapping[str, str], *, source: str) -> None:
    """Checks that weights were trained with the configured frozen towers.

    Args:
        saved: notes of the weights.
        present: fingerprints of the configured towers.
        source: of the weights, for the message.

    Raises:
        UserError: a tower differs; both are named.
    """
    for name, fingerprint in present.items():
        known = None if "_" in name else saved.get(name)  # only fingerprints, no lists and names
        if known is not None and known != fingerprint:
            raise UserError(
                f"{source} was trained with another {name} tower ({known}) than the configured one "
                f"({fingerprint}): "
                "choose the tower it was trained with, or start a new run in another OUTPUT_DIR"
            )


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    notes = {
        "format": FORMAT,
        "iteration": str(checkpoint.iteration),
        "numbers": json.dumps(checkpoint.numbers),
    }
    write_safetensors(checkpoint.weights, folder / WEIGHTS, {**notes, **checkpoint.about})
    write_safetensors(checkpoint.training, folder / TRAINING, notes)


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that is renamed to ``path`` once its files are on the disk.

    Leftovers of killed processes are removed.
    """
    for leftover in path.parent.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(leftover)
    part = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    part.mkdir(parents=True)
    try:
        yield part
        for file in (*part.iterdir(), part):
            _flush(file)
        if path.exists():  # a folder cannot replace another by renaming
            shutil.rmtree(path)
        part.rename(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _flush(path: Path) -> None:
    """Waits until the content of a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
