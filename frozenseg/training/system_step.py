"""One update of a system that computes its own losses: Mask-Adapter, MAFT+, OVR."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from frozenseg.pipeline.protocols import TextRows
from frozenseg.structures import Target
from frozenseg.training.optimizer import ClippedAdamW
from frozenseg.training.step import Batch, Losses, Update


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


class SystemStep(Update):
    """The update of a system.

    Args:
        model: the system to train.
        text: rows of the training classes.
        optimizer, device, autocast: see ``Update``.
    """

    model: SystemTraining

    def __init__(
        self,
        *,
        model: SystemTraining,
        text: TextRows,
        optimizer: ClippedAdamW,
        device: torch.device,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(model=model, optimizer=optimizer, device=device, autocast=autocast)
        self.text = text

    def losses(self, batch: Batch, num_targets: float) -> Losses:
        with self.precision():
            return self.model(batch.images, batch.targets, self.text, num_targets=num_targets)
