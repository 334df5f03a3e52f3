"""Between a running training and its checkpoint, both ways."""

import logging
from collections.abc import Mapping

import torch

from frozenseg.engine.checkpoint import Checkpoint
from frozenseg.engine.distributed import gather, num_processes, process_rank
from frozenseg.engine.optimizer import load_moments, moments_by_name
from frozenseg.engine.random_state import random_state, restore_random_state
from frozenseg.engine.step import TrainStep

logger = logging.getLogger(__name__)


def take_snapshot(
    step: TrainStep, *, iteration: int, samples_seen: int, about: Mapping[str, str]
) -> Checkpoint:
    """All that the run needs to go on; every process must come here, with its random state."""
    training = {
        f"optimizer/{key}": value
        for key, value in moments_by_name(step.optimizer, step.model).items()
    }
    for name, own in random_state(step.device).items():
        for rank, state in enumerate(gather(own, step.device)):
            training[f"random/{rank}/{name}"] = state
    return Checkpoint(
        iteration=iteration,
        weights=step.model.trainable_state(),
        about=about,
        training=training,
        numbers={
            "samples_seen": samples_seen,
            "num_processes": num_processes(),
            "scaler": step.scaler.state_dict(),
        },
    )


def restore_snapshot(step: TrainStep, checkpoint: Checkpoint) -> None:
    """Puts weights, optimizer, loss scale and random states back as they were.

    With another number of processes than before, random states start afresh.

    Raises:
        UserError: the weights are those of another architecture.
    """
    step.model.load_trainable_state(checkpoint.weights, source=f"checkpoint {checkpoint.iteration}")
    parts = _below(checkpoint.training, "optimizer/")
    load_moments(step.optimizer, step.model, parts)
    step.scaler.load_state_dict(checkpoint.numbers["scaler"])
    if checkpoint.numbers["num_processes"] == num_processes():
        own = _below(checkpoint.training, f"random/{process_rank()}/")
        restore_random_state(own, step.device)
    else:
        logger.warning(
            "the checkpoint comes from %d processes, this run has %d: random states start afresh",
            checkpoint.numbers["num_processes"],
            num_processes(),
        )


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
