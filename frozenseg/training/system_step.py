"""One update of a system that computes its own losses: Mask-Adapter, MAFT+, OVR."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from frozenseg.pipeline.protocols import TextRows
from frozenseg.structures import Target
from frozenseg.training.divergence import Diverged, confirm_update, cost_message
from frozenseg.training.optimizer import ClippedAdamW
from frozenseg.training.step import (
    Batch,
    Losses,
    apply_update,
    checked_total,
    mean_targets,
)


class SystemTraining(Protocol):
    """A system with some parts that learn, and their losses. Members are ``nn.Module``."""

    def __call__(
        self,
        images: list[Tensor],
        targets: Sequence[Target],
        text: TextRows,
        *,
        num_targets: float | None = None,
    ) -> Losses:
        """Returns the weighted losses of (3, H, W) images in 0..255 and their targets.

        Args:
            images: padded to one size in the batch.
            targets: one per image.
            text: rows of the training classes.
            num_targets: divisor of losses that are sums over targets; by default their number.
        """
        ...

    def train(self, mode: bool = True) -> Any: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def trainable_state(self) -> dict[str, Tensor]: ...
    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None: ...


class SystemStep:
    """Makes one update from this process's batches.

    Args:
        model: the system to train.
        text: rows of the training classes.
        optimizer: over the parts that learn.
        device: of model and batches.
        autocast: type of mixed precision; None: off. float16 also scales the loss.
    """

    def __init__(
        self,
        *,
        model: SystemTraining,
        text: TextRows,
        optimizer: ClippedAdamW,
        device: torch.device,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model, self.text, self.optimizer = model, text, optimizer
        self.device, self.autocast = device, autocast
        self.scaler = torch.amp.GradScaler(device.type, enabled=autocast is torch.float16)
        self._names: list[str] = []  # of the images of the last update

    def __call__(self, batches: Sequence[Batch]) -> Losses:
        """Updates the weights by the mean gradient of the batches and returns their mean losses.

        Raises:
            Diverged: a loss is not finite, or the gradient of the previous update was not.
        """
        self.confirm()
        self.optimizer.zero_grad(set_to_none=True)
        parts, num_targets = [], mean_targets(batches)
        for batch in batches:
            losses = self._losses(batch, num_targets)
            total = checked_total(losses, batch.names)
            self.scaler.scale(total / len(batches)).backward()
            parts.append({name: loss.detach() for name, loss in losses.items()})
            parts[-1]["total_loss"] = total.detach()
        self._names = [name for batch in batches for name in batch.names]
        apply_update(self.optimizer, self.scaler)
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def confirm(self) -> None:
        """Checks that the last update was applied; see ``confirm_update``.

        Raises:
            Diverged: its gradient is not finite.
        """
        confirm_update(self.model, self.optimizer, self.scaler, self._names)

    def _losses(self, batch: Batch, num_targets: float) -> Losses:
        moved = batch.to(self.device)
        try:
            with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                return self.model(moved.images, moved.targets, self.text, num_targets=num_targets)
        except FloatingPointError as error:
            raise Diverged(cost_message(error, batch.names)) from error
