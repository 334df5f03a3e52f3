"""What is measured while training, for people (TensorBoard) and for programs (JSON lines)."""

import json
import logging
import math
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write, make_folder
from frozenseg.runtime.distributed import average

logger = logging.getLogger(__name__)


class Writer(Protocol):
    """Where numbers go."""

    def write(self, iteration: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class DeviceMean:
    """Averages named scalars where they are computed: nothing waits until they are read.

    Args:
        state: of another one, to go on from.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self._names: tuple[str, ...] = ()
        self._sum: Tensor | None = None
        self._count = 0
        if state is not None and state["count"]:
            self._names, self._count = tuple(state["sums"]), state["count"]
            self._sum = torch.tensor(list(state["sums"].values()))

    def add(self, values: Mapping[str, Tensor]) -> None:
        row = torch.stack([value.detach().float() for value in values.values()])
        if self._sum is None:
            self._names, self._sum = tuple(values), row
        elif tuple(values) != self._names:
            raise ValueError(f"names changed from {self._names} to {tuple(values)}")
        else:
            self._sum = self._sum.to(row.device) + row
        self._count += 1

    def read(self) -> dict[str, float]:
        """Means since the last read, over all processes; every process must come here."""
        if self._sum is None:
            return {}
        (means,) = average([self._sum / self._count])
        self._sum, self._count = None, 0
        return dict(zip(self._names, means.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """What has not been read yet, for JSON; every process must come here."""
        if self._sum is None:
            return {"count": 0, "sums": {}}
        (sums,) = average([self._sum])
        return {"count": self._count, "sums": dict(zip(self._names, sums.tolist(), strict=True))}


class JsonLines:
    """One JSON object a line, null where a number is undefined.

    A resumed run drops the lines that it is about to write again.
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
        """Nothing is kept open."""


class TensorBoard:
    """Curves for ``tensorboard --logdir``; a resumed run hides the points that it writes again."""

    def __init__(self, folder: Path, *, resume_at: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(folder), purge_step=resume_at + 1 if resume_at else None)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """The same curves on wandb.ai, for those who have it installed and ask for it.

    The run's name there is that of its folder, where its id is kept for when it goes on.
    """

    def __init__(
        self, folder: Path, *, project: str, config: Mapping[str, Any], resume_at: int = 0
    ) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports] (optional)
        except ImportError as error:
            raise UserError(
                "Weights & Biases was asked for but is not installed: pip install wandb"
            ) from error
        note = folder / "wandb_id.txt"
        if not (resume_at and note.exists()):
            with atomic_write(note) as part:
                part.write_text(secrets.token_hex(4))
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
    for writer in writers:
        writer.write(iteration, values)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file; a last line that was cut short by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("%s: a line was cut short and is left out: %.40s", path, line)
    return records


def _keep_lines_up_to(path: Path, iteration: int) -> None:
    """The evaluation of this iteration goes too: it comes again."""
    kept = [
        record
        for record in read_json_lines(path)
        if record["iteration"] < iteration
        or (record["iteration"] == iteration and any("loss" in name for name in record))
    ]
    with atomic_write(path) as part:
        part.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf8")
