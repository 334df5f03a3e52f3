"""Checkpoints that either engine goes on from, and weights in any format for Detectron2's tools."""

from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from detectron2.engine import HookBase
from detectron2.utils.file_io import PathHandler, PathManager

from frozenseg.checkpoint.reading import read_weights
from frozenseg.checkpoint.weights import FOLDER_FILE
from frozenseg.engine.distributed import any_process, is_distributed
from frozenseg.engine.optimizer import ClippedAdamW
from frozenseg.engine.stop import REQUEUE_EXIT_CODE, StopRequest
from frozenseg.engine.train import VOTE_PERIOD
from frozenseg.modeling.frozenseg import FrozenSeg

PREFIX = "frozenseg:"  # with slashes after it, paths do not survive the checkpointer's URL parsing


class TrainingParts(NamedTuple):
    """What a checkpoint is taken of and restored to; the native engine's step has the same."""

    model: FrozenSeg
    optimizer: ClippedAdamW
    scaler: torch.amp.GradScaler
    device: torch.device


class SaveAndStop(HookBase):
    """Saves at the period, at the end, and when a scheduler or a person asks the run to stop."""

    def __init__(self, *, period: int) -> None:
        self.period = period
        self.stop = StopRequest()

    def before_train(self) -> None:
        self.stop.__enter__()

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        stopping = self._agreed(iteration)
        last = iteration == self.trainer.max_iter
        if stopping or last or (self.period > 0 and iteration % self.period == 0):
            self.trainer.save(iteration)
        if stopping and not last:
            raise SystemExit(REQUEUE_EXIT_CODE)

    def after_train(self) -> None:
        self.stop.__exit__()

    def _agreed(self, iteration: int) -> bool:
        """Whether any process was asked to stop; all get the same answer at the same iteration."""
        if is_distributed() and iteration % VOTE_PERIOD:
            return False
        return any_process(self.stop.requested, self.trainer.parts.device)


class WeightsHandler(PathHandler):
    """``frozenseg:PATH`` in ``MODEL.WEIGHTS``: a file or checkpoint folder of this project.

    Detectron2's own checkpointer reads files of ``torch.save`` alone; it gets one that lasts as
    long as this process.
    """

    @cached_property
    def _folder(self) -> TemporaryDirectory:
        return TemporaryDirectory(prefix="frozenseg-")

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **_: Any) -> str:
        source = Path(weights_path(path)).expanduser()
        source = source / FOLDER_FILE if source.is_dir() else source
        weights = read_weights(source)
        state = OrderedDict(weights.tensors)
        state._metadata = weights.notes  # the attribute that PyTorch keeps notes in
        copy = Path(self._folder.name) / f"{hash(source):x}.pth"
        torch.save({"model": state}, copy)
        return str(copy)


def weights_path(name: str) -> str:
    """The file or folder that ``MODEL.WEIGHTS`` names, for this project's own readers."""
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX)
    return PathManager.get_local_path(name) if name else name


PathManager.register_handler(WeightsHandler())
