"""Why training stopped by itself, in words that point at a place."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from frozenseg.training.optimizer import ClippedAdamW

MAX_LOSS = 1e5  # training starts near 100; beyond this it has exploded
DIVERGED_EXIT_CODE = 1
MIN_LOSS_SCALE = 1.0  # float16: a search for a scale that falls below this does not end
ADVICE = (
    "lower SOLVER.BASE_LR or set SOLVER.AMP.ENABLED False, and go on from the last checkpoint, if "
    "there is one, with --resume"
)


class Diverged(RuntimeError):
    """Training left the finite numbers; what is on the disk is sound."""


def confirm_update(
    model: nn.Module,
    optimizer: ClippedAdamW,
    scaler: torch.amp.GradScaler,
    images: Sequence[str],
) -> None:
    """Makes sure that the last update had a finite gradient and was therefore applied.

    The host waits for it.

    Args:
        images: names of those that the update saw.

    Raises:
        Diverged: it had not; the weights are those before it.
    """
    norm = optimizer.grad_norm
    if norm is None or math.isfinite(norm):
        return
    if scaler.is_enabled() and scaler.get_scale() >= MIN_LOSS_SCALE:
        return  # expected now and then: the loss scale was too large, the update was left out
    raise Diverged(explain_gradients(model, images))


def explain_error(error: FloatingPointError, images: Sequence[str]) -> str:
    """What could not be computed from which images."""
    reason = " ".join(str(error).split())
    return f"{reason}. Images: {', '.join(images)}. Next: {ADVICE}"


def explain_losses(losses: Mapping[str, float], images: Sequence[str]) -> str:
    """Which loss broke, and on which images."""
    worst = sorted(losses.items(), key=lambda item: -_size(item[1]))[:3]
    values = ", ".join(f"{name} = {loss:.6g}" for name, loss in worst)
    return (
        f"the loss exploded or is not finite: {values}. Images: {', '.join(images)}. Next: {ADVICE}"
    )


def explain_gradients(model: nn.Module, images: Sequence[str]) -> str:
    """Which parameter's gradient broke, and on which images.

    Gradients flow from the end of the model to its start, so that the last broken one is named
    first.
    """
    graded = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    broken = [name for name, gradient in graded if not gradient.isfinite().all()]
    return (
        f"the gradient is not finite in {len(broken)} of {len(graded)} parameters, nearest to the "
        f"output in {', '.join(broken[:-4:-1])}. Images: {', '.join(images)}. Next: {ADVICE}"
    )


def _size(loss: float) -> float:
    return float("inf") if math.isnan(loss) else abs(loss)
