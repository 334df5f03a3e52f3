"""Why training stopped by itself, in words that point at a place."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

ADVICE = "lower SOLVER.BASE_LR, or train with SOLVER.AMP.ENABLED False, from the last checkpoint"


class Diverged(RuntimeError):
    """Training left the finite numbers; what is on the disk is sound."""


def explain_losses(losses: Mapping[str, Tensor], images: Sequence[str]) -> str:
    """Which loss broke, and on which images."""
    worst = sorted(losses.items(), key=lambda item: -_size(item[1]))[:3]
    values = ", ".join(f"{name} = {loss.item():.6g}" for name, loss in worst)
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


def _size(loss: Tensor) -> float:
    value = abs(loss.item())
    return value if value == value else float("inf")
