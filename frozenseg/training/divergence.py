"""Diagnoses divergence: which loss, layer and images."""

import math
from collections.abc import Mapping, Sequence

import torch

from frozenseg.training.optimizer import ClippedAdamW, NamedParameters

MAX_LOSS = 1e5  # training starts near 100; a larger loss has exploded
DIVERGED_EXIT_CODE = 1
MIN_LOSS_SCALE = 1.0  # float16: below this the search for a scale does not end
ADVICE = (
    "lower SOLVER.BASE_LR or set SOLVER.AMP.ENABLED False, and continue from the last checkpoint, "
    "if there is one, with --resume"
)


class Diverged(RuntimeError):
    """A loss or gradient is not finite; the checkpoints on disk are not affected."""


def confirm_update(
    model: NamedParameters,
    optimizer: ClippedAdamW,
    scaler: torch.amp.GradScaler,
    images: Sequence[str],
    *,
    advice: str = ADVICE,
) -> None:
    """Checks that the last update had a finite gradient and was therefore applied.

    The host waits for the update.

    Args:
        model: the trained model.
        optimizer: its last gradient norm is checked.
        scaler: the loss scale of float16, which may skip an update.
        images: names of the images of the update.
        advice: what to do next.

    Raises:
        Diverged: the gradient is not finite; the weights are those before the update.
    """
    norm = optimizer.grad_norm
    if norm is None or math.isfinite(norm):
        return
    if scaler.is_enabled() and scaler.get_scale() >= MIN_LOSS_SCALE:
        return  # expected occasionally: the loss scale was too large, so the update was skipped
    raise Diverged(gradient_message(model, images, advice=advice))


def cost_message(error: FloatingPointError, images: Sequence[str]) -> str:
    """Returns the report of matching costs that are not finite."""
    reason = " ".join(str(error).split())
    return f"{reason}. Images: {', '.join(images)}. Next: {ADVICE}"


def loss_message(
    losses: Mapping[str, float], images: Sequence[str], *, advice: str = ADVICE
) -> str:
    """Returns the report of losses that exploded or are not finite, with the images."""
    worst = sorted(losses.items(), key=lambda item: -_size(item[1]))[:3]
    values = ", ".join(f"{name} = {loss:.6g}" for name, loss in worst)
    return (
        f"the loss exploded or is not finite: {values}. Images: {', '.join(images)}. Next: {advice}"
    )


def gradient_message(model: NamedParameters, images: Sequence[str], *, advice: str = ADVICE) -> str:
    """Returns the report of gradients that are not finite, and the images.

    Gradients flow from the output to the input, so the last such parameter is named first.
    """
    graded = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    broken = [name for name, gradient in graded if not gradient.isfinite().all()]
    return (
        f"the gradient is not finite in {len(broken)} of {len(graded)} parameters, nearest to the "
        f"output in {', '.join(broken[:-4:-1])}. Images: {', '.join(images)}. Next: {advice}"
    )


def _size(loss: float) -> float:
    return float("inf") if math.isnan(loss) else abs(loss)
