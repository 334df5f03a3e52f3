"""Metrics of a training: JSON lines for programs, TensorBoard and Weights & Biases for people."""

import json
import logging
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.files import make_folder
from frozenseg.io.gates import reason_of
from frozenseg.io.text import shown
from frozenseg.io.writing import write_text
from frozenseg.runtime.distributed import average

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Writer(Protocol):
    """A destination of metrics."""

    def write(self, iteration: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class DeviceMean:
    """Averages named scalars on their device, so that the host does not wait before ``read``.

    Sums are float64, in which sums of float32 values are exact: a run that was resumed, whose
    processes continue from their common mean, gets the numbers of an undisturbed one.

    Args:
        state: of another instance, to continue from.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self._names: tuple[str, ...] = ()
        self._sum: Tensor | None = None
        self._count = 0
        if state is not None and state["count"]:
            self._names, self._count = tuple(state["sums"]), state["count"]
            self._sum = torch.tensor(list(state["sums"].values()), dtype=torch.float64)

    def add(self, values: Mapping[str, Tensor]) -> None:
        row = torch.stack([value.detach().float() for value in values.values()])
        row = row if row.device.type == "mps" else row.double()  # which MPS does not have
        if self._sum is None:
            self._names, self._sum = tuple(values), row
        elif tuple(values) != self._names:
            raise ValueError(f"names changed from {self._names} to {tuple(values)}")
        else:
            self._sum = self._sum.to(row) + row
        self._count += 1

    def read(self) -> dict[str, float]:
        """Returns the means over processes since the last read. Collective."""
        if self._sum is None:
            return {}
        (sums,) = average([self._sum])
        means = (sums / self._count).float()
        self._sum, self._count = None, 0
        return dict(zip(self._names, means.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """Returns the values that were not read yet, for JSON. Collective."""
        if self._sum is None:
            return {"count": 0, "sums": {}}
        (sums,) = average([self._sum])
        return {"count": self._count, "sums": dict(zip(self._names, sums.tolist(), strict=True))}


class OptionalWriter:
    """A writer that a run can do without: if it fails, a warning is logged and it is turned off.

    Args:
        name: of the destination, for the warning.
        make: opens the destination.
    """

    def __init__(self, name: str, make: Callable[[], Writer]) -> None:
        self.name = name
        self._writer: Writer | None = None
        self._writer = self._attempt(make)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        writer = self._writer
        if writer is not None:
            self._attempt(lambda: writer.write(iteration, values))

    def close(self) -> None:
        if self._writer is not None:
            self._attempt(self._writer.close)

    def _attempt(self, action: Callable[[], Result]) -> Result | None:
        try:
            return action()
        except Exception as error:  # libraries raise their own errors on a full disk
            logger.warning(
                "%s cannot be written (%s): the run continues without it",
                self.name,
                reason_of(error),
            )
            self._writer = None
            return None


class JsonLines:
    """Writes one JSON object per line, null for an undefined number.

    Args:
        path: the file.
        resume_at: iteration that the run continues from; later lines are dropped.

    Raises:
        UserError, OSError: the file cannot be read or written.
    """

    def __init__(self, path: Path, *, resume_at: int = 0) -> None:
        make_folder(path.parent)
        if path.exists():
            _keep_lines_up_to(path, resume_at)
        self.path = path

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a", encoding="utf8") as file:
            file.write(json.dumps({"iteration": iteration, **known}) + "\n")

    def close(self) -> None:
        """The file is not kept open."""


class TensorBoard:
    """Curves for ``tensorboard --logdir``; a resumed run hides the points that it repeats."""

    def __init__(self, folder: Path, *, resume_at: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(folder), purge_step=resume_at + 1 if resume_at else None)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """Curves on wandb.ai, under the name of the run's folder, which keeps the run's id.

    Args:
        folder: of the run.
        project: on wandb.ai.
        config: shown with the run.
        resume_at: iteration that the run continues from; 0 starts a new run there.

    Raises:
        UserError: wandb is not installed, or the id cannot be written.
    """

    def __init__(
        self, folder: Path, *, project: str, config: Mapping[str, Any], resume_at: int = 0
    ) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports] (optional)
        except ImportError as error:
            raise UserError(
                "--wandb needs the package wandb, which is not installed: pip install wandb"
            ) from error
        note = folder / "wandb_id.txt"
        if not (resume_at and note.exists()):
            write_text(note, secrets.token_hex(4))
        self._run = wandb.init(
            project=project,
            dir=str(folder),
            config=dict(config),
            name=folder.name,
            id=note.read_text(),
            resume="allow",
        )

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=iteration)

    def close(self) -> None:
        self._run.finish()


def write_all(writers: Sequence[Writer], iteration: int, values: Mapping[str, float]) -> None:
    """Sends the metrics of one iteration to every writer."""
    for writer in writers:
        writer.write(iteration, values)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a metrics file; damaged lines are logged and left out.

    A killed process may leave an incomplete last line.
    """
    records = []
    for line in path.read_text(encoding="utf8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and isinstance(record.get("iteration"), int):
            records.append(record)
        else:
            logger.warning("%s: a damaged line is left out: %s", path, shown(line[:40]))
    return records


def _keep_lines_up_to(path: Path, iteration: int) -> None:
    """Drops later lines; the evaluation of this iteration is dropped too and will be rerun."""
    kept = [
        record
        for record in read_json_lines(path)
        if record["iteration"] < iteration
        or (record["iteration"] == iteration and any("loss" in name for name in record))
    ]
    write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
