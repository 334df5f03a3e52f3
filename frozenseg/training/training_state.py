"""The state of a running training: captured to a checkpoint and restored from it."""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from frozenseg.runtime.distributed import gather, num_processes, process_rank
from frozenseg.runtime.random_state import random_state, restore_random_state
from frozenseg.training.checkpoints import Checkpoint
from frozenseg.training.optimizer import (
    ClippedAdamW,
    NamedParameters,
    load_moments,
    moments_by_name,
)

logger = logging.getLogger(__name__)


class TrainedModel(NamedParameters, Protocol):
    """A model with some trained weights, which checkpoints keep."""

    def train(self, mode: bool = True) -> Any: ...
    def trainable_state(self) -> dict[str, Tensor]: ...
    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None: ...


class TrainedParts(Protocol):
    """The parts of a training that have a state, except random generators."""

    @property
    def model(self) -> TrainedModel: ...
    @property
    def optimizer(self) -> ClippedAdamW: ...
    @property
    def scaler(self) -> torch.amp.GradScaler: ...
    @property
    def device(self) -> torch.device: ...


def capture_state(
    parts: TrainedParts,
    *,
    iteration: int,
    samples_seen: int,
    about: Mapping[str, str],
    towers: Mapping[str, Tensor] | None = None,
    unlogged: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Collects everything that the run needs to resume. Collective.

    Args:
        parts: model, optimizer, loss scale and device.
        iteration: number of updates so far.
        samples_seen: position in the shared stream of samples.
        about: notes stored with the weights.
        towers: weights of towers that are stored with the trained ones.
        unlogged: metrics that were not written yet (``DeviceMean.state``).
    """
    training = {
        f"optimizer/{key}": value
        for key, value in moments_by_name(parts.optimizer, parts.model).items()
    }
    for name, own in random_state(parts.device).items():
        for rank, state in enumerate(gather(own, parts.device)):
            training[f"random/{rank}/{name}"] = state
    return Checkpoint(
        iteration=iteration,
        weights={**parts.model.trainable_state(), **(towers or {})},
        about=about,
        training=training,
        numbers={
            "samples_seen": samples_seen,
            "num_processes": num_processes(),
            "scaler": parts.scaler.state_dict(),
            "unlogged": unlogged,
        },
    )


def restore_state(
    parts: TrainedParts, checkpoint: Checkpoint, *, towers: Mapping[str, Tensor] | None = None
) -> None:
    """Restores weights, optimizer, loss scale and random states.

    Random states are not restored if the number of processes differs.

    Args:
        parts: are changed in place.
        checkpoint: a checkpoint of the run.
        towers: what was stored with its weights; the model has them already.

    Raises:
        UserError: the weights are those of another architecture.
    """
    own = {n: value for n, value in checkpoint.weights.items() if n not in (towers or {})}
    parts.model.load_trainable_state(own, source=f"checkpoint {checkpoint.iteration}")
    moments = _below(checkpoint.training, "optimizer/")
    load_moments(parts.optimizer, parts.model, moments)
    parts.scaler.load_state_dict(checkpoint.numbers["scaler"])
    if checkpoint.numbers["num_processes"] == num_processes():
        own = _below(checkpoint.training, f"random/{process_rank()}/")
        restore_random_state(own, parts.device)
    else:
        logger.warning(
            "random states are not restored: the checkpoint has %d processes, this run %d",
            checkpoint.numbers["num_processes"],
            num_processes(),
        )


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
