"""Checkpoints: trained weights, and all that a run needs to go on as if it had never stopped."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write

logger = logging.getLogger(__name__)

FINAL_WEIGHTS = "model_final.safetensors"
FORMAT = "frozenseg-checkpoint-1"
WEIGHTS = "weights.safetensors"
TRAINING = "training.safetensors"
POINTER = "last_checkpoint"  # beside the checkpoints' folder, as Detectron2 names it


@dataclass(frozen=True)
class Checkpoint:
    """A run after ``iteration`` updates.

    ``weights`` is the model's trainable state and ``about`` says what it belongs to (towers,
    configuration); ``training`` are the optimizer's and the random generators' tensors, ``numbers``
    whatever JSON can hold.
    """

    iteration: int
    weights: Mapping[str, Tensor]
    about: Mapping[str, str]
    training: Mapping[str, Tensor]
    numbers: Mapping[str, Any]


class CheckpointFolder:
    """The last ``keep`` checkpoints of a run, each a folder of two safetensors files.

    A checkpoint appears under its name only when all of it is on the disk, and older ones go after
    that.
    """

    def __init__(self, folder: Path, *, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder, self.keep = folder, keep

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes, points to it, and deletes the oldest beyond ``keep``.

        Raises:
            UserError: it cannot be written; those before it are as they were.
        """
        path = self.path(checkpoint.iteration)
        try:
            with _written_whole_folder(path) as part:
                _write(checkpoint, part)
            with atomic_write(self.folder.parent / POINTER) as part:
                part.write_text(f"{self.folder.name}/{path.name}\n")
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"checkpoint {path} cannot be written ({error}): make room, then --resume"
            ) from error
        before = [each for each in self.paths() if int(each.name) < checkpoint.iteration]
        for old in before[self.keep - 1 :]:
            shutil.rmtree(old)
        return path

    def path(self, iteration: int) -> Path:
        return self.folder / f"{iteration:07d}"

    def paths(self) -> list[Path]:
        """Checkpoints, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        # not a copy that someone made
        own = (path for path in found if path.name.isdecimal() and path.is_dir())
        return sorted(own, key=lambda path: int(path.name), reverse=True)

    def newest_path(self) -> Path | None:
        """Where the newest is that can be read whole."""
        return next((path for path, _ in self._sound()), None)

    def newest(self) -> Checkpoint | None:
        """The newest that can be read whole; the log names damaged ones, which are passed over."""
        return next((checkpoint for _, checkpoint in self._sound()), None)

    def _sound(self) -> Iterator[tuple[Path, Checkpoint]]:
        for path in self.paths():
            try:
                checkpoint = read_checkpoint(path)
            except (OSError, SafetensorError, ValueError, KeyError) as error:
                logger.warning("%s cannot be read (%s): trying the one before", path, error)
            else:
                yield path, checkpoint


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads both files of one checkpoint.

    Raises:
        OSError, SafetensorError, ValueError, KeyError: something is missing, cut short or of
            another format.
    """
    weights, about = read_safetensors(path / WEIGHTS)
    training, notes = read_safetensors(path / TRAINING)
    if notes.get("format") != FORMAT:
        raise ValueError(f"its format is {notes.get('format')!r}, expected {FORMAT!r}")
    return Checkpoint(
        iteration=int(notes["iteration"]),
        weights=weights,
        about=about,
        training=training,
        numbers=json.loads(notes["numbers"]),
    )


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file, on the CPU, and its notes."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return tensors, file.metadata() or {}


def publish_weights(checkpoint: Path, path: Path) -> None:
    """Gives a checkpoint's weights a name of their own that outlives rotation."""
    with atomic_write(path) as part:
        shutil.copyfile(checkpoint / WEIGHTS, part)


def check_same_towers(saved: Mapping[str, str], present: Mapping[str, str], *, source: str) -> None:
    """Weights serve only the frozen towers that they were trained with.

    Raises:
        UserError: a tower differs; both are named.
    """
    for name, fingerprint in present.items():
        known = None if name.endswith("_name") else saved.get(name)
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
    _save(checkpoint.weights, folder / WEIGHTS, {**notes, **checkpoint.about})
    _save(checkpoint.training, folder / TRAINING, notes)


def _save(tensors: Mapping[str, Tensor], path: Path, notes: Mapping[str, str]) -> None:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, dict(notes))


@contextmanager
def _written_whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that is named ``path`` once all its files are on the disk, else goes.

    What a killed process left of earlier ones goes too.
    """
    for leftover in path.parent.glob(".partial-*"):
        shutil.rmtree(leftover)
    part = path.with_name(f".partial-{path.name}")
    part.mkdir(parents=True)
    try:
        yield part
        for file in (*part.iterdir(), part):
            _flush(file)
        if path.exists():  # a folder cannot be renamed onto another
            shutil.rmtree(path)
        part.rename(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _flush(path: Path) -> None:
    """Waits until a file's or a folder's content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
