"""The training loop that the miniature CLIP and SAM share: schedule, progress and checkpoints."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

WARMUP_STEPS = 200
LOG_EVERY, EVALUATE_EVERY = 50, 500  # steps
CHECKPOINT_SECONDS = 120
console = Console()

# trains on one batch drawn with the generator; loss and a measure in [0, 1] of that batch
TrainStep = Callable[[torch.optim.Optimizer, np.random.Generator, int], tuple[float, float]]


class Schedule(NamedTuple):
    """Length and learning rate of a training."""

    steps: int
    minutes: float  # the training ends after this time, even with fewer steps
    learning_rate: float  # maximum


def train(
    model: nn.Module,
    train_step: TrainStep,
    *,
    schedule: Schedule,
    seed: int,
    checkpoint: Path,
    resume: bool,
    measure: str,
    evaluate: Callable[[], str],
) -> None:
    """Trains a model in place.

    Args:
        model: all parameters are trained.
        train_step: takes the optimizer, a random generator of this step, and the step.
        schedule: length and learning rate.
        seed: step ``n`` draws its batch from ``(seed, n)``, so that a resumed run sees the same.
        checkpoint: the file of model, optimizer and step.
        resume: continue from ``checkpoint``.
        measure: name of the measure in the log.
        evaluate: returns a line for the log, every 500 steps.
    """
    optimizer = build_optimizer(model, schedule.learning_rate)
    first = load_checkpoint(checkpoint, model, optimizer) if resume else 0
    start = saved = time.monotonic()
    for step in range(first, schedule.steps):
        elapsed = (time.monotonic() - start) / 60
        progress = max(step / schedule.steps, elapsed / schedule.minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * learning_rate_factor(step, progress)
        loss, value = train_step(optimizer, np.random.default_rng((seed, step)), step)
        if step % LOG_EVERY == 0:
            left = elapsed / (step - first + 1) * (schedule.steps - step)
            console.log(
                f"step {step}/{schedule.steps} loss {loss:.3f} batch {measure} {value:.3f} "
                f"{elapsed:.1f} min, about {left:.0f} min left"
            )
        if step % EVALUATE_EVERY == EVALUATE_EVERY - 1:
            console.log(evaluate())
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            save_checkpoint(checkpoint, model, optimizer, step + 1)
            saved = time.monotonic()


def build_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only, not on norms, biases and the temperature."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))


def learning_rate_factor(step: int, progress: float) -> float:
    """Linear warm-up, then half a cosine to zero."""
    return min(1, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * progress))


def apply_gradients(model: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One optimizer step with gradients clipped to norm 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores both and returns the next step."""
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def write_half_precision(path: Path, model: nn.Module) -> None:
    """Writes the weights in float16, atomically."""
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    part = path.with_name(path.name + ".part")
    save_file(state, part)
    part.replace(path)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)
