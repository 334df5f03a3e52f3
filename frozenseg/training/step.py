"""One update of the trained weights: forward, backward, average over processes, clip, step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from frozenseg.losses import TrainingLoss
from frozenseg.modeling.trained import TrainedProposer
from frozenseg.runtime.distributed import average_gradients
from frozenseg.structures import Target
from frozenseg.training.divergence import (
    MAX_LOSS,
    Diverged,
    NamedParameters,
    confirm_update,
    cost_message,
    loss_message,
)
from frozenseg.training.optimizer import ClippedAdamW
from frozenseg.vocabulary.text_classifier import TextClassifier

Losses = dict[str, Tensor]


class Batch(NamedTuple):
    """Training images and their targets."""

    images: list[Tensor]  # (3, H, W) uint8 RGB
    targets: list[Target]
    names: list[str]  # file names, for error messages
    visits: int  # of the sampler; more than images if bad samples were left out

    def to(self, device: torch.device) -> "Batch":
        images = [image.to(device, non_blocking=True) for image in self.images]
        targets = [
            Target(*(part.to(device, non_blocking=True) for part in target))
            for target in self.targets
        ]
        return self._replace(images=images, targets=targets)


class Update(ABC):
    """Makes one update from this process's batches; subclasses know the losses.

    Args:
        model: whose trainable parameters are updated.
        optimizer: over these parameters.
        device: of model and batches.
        autocast: type of mixed precision; None: off. float16 also scales the loss.
    """

    def __init__(
        self,
        *,
        model: NamedParameters,
        optimizer: ClippedAdamW,
        device: torch.device,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.device, self.autocast = device, autocast
        self.scaler = torch.amp.GradScaler(device.type, enabled=autocast is torch.float16)
        self._names: list[str] = []  # of the images of the last update

    @abstractmethod
    def losses(self, batch: Batch, num_targets: float) -> Losses:
        """Returns the weighted losses of a batch on the device.

        Args:
            batch: to train with.
            num_targets: divisor of losses that are sums over targets.

        Raises:
            FloatingPointError: the predictions have diverged.
        """

    def __call__(self, batches: Sequence[Batch]) -> Losses:
        """Updates the weights by the mean gradient of the batches and returns their mean losses.

        Raises:
            Diverged: a loss is not finite, or the gradient of the previous update was not. Weights
                are those of the last finite update; the message names losses or layers, and images.
        """
        parts = []
        num_targets = mean_targets(batches)
        for turn, batch in enumerate(batches):
            losses = self._finite_losses(batch, num_targets)
            total = checked_total(losses, batch.names)
            if turn == 0:
                # the sum has just waited for the device, so this check is free
                self.confirm()
                self.optimizer.zero_grad(set_to_none=True)
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

    def precision(self) -> torch.autocast:
        """Returns the context of mixed precision, which may be off."""
        return torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None)

    def _finite_losses(self, batch: Batch, num_targets: float) -> Losses:
        try:
            return self.losses(batch.to(self.device), num_targets)
        except FloatingPointError as error:
            raise Diverged(cost_message(error, batch.names)) from error


class TrainStep(Update):
    """The update of a proposer.

    Args:
        model: called with images and the classifier; the criterion takes its ``predictions``.
        classifier: text embeddings of the training classes.
        criterion: the losses.
        optimizer, device, autocast: see ``Update``.
    """

    model: TrainedProposer

    def __init__(
        self,
        *,
        model: TrainedProposer,
        classifier: TextClassifier,
        criterion: TrainingLoss,
        optimizer: ClippedAdamW,
        device: torch.device,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(model=model, optimizer=optimizer, device=device, autocast=autocast)
        self.classifier, self.criterion = classifier, criterion

    def losses(self, batch: Batch, num_targets: float) -> Losses:
        with self.precision():
            predictions = self.model(batch.images, self.classifier).predictions
        return self.criterion(predictions, batch.targets, num_targets=num_targets)


def checked_total(losses: Losses, names: Sequence[str]) -> Tensor:
    """Returns the sum of weighted losses; the host waits for it once.

    Raises:
        Diverged: it is not finite; the message names the losses and these images.
    """
    total = torch.stack(list(losses.values())).sum()
    if not abs(total.item()) <= MAX_LOSS:  # also true for nan
        values = {name: loss.item() for name, loss in losses.items()}
        raise Diverged(loss_message(values, names))
    return total


def apply_update(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Averages the gradients over processes and applies them. Collective."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    average_gradients(parameters)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()


def mean_targets(batches: Sequence[Batch]) -> float:
    """Returns the mean number of targets of the batches."""
    counts = [len(target.class_ids) for batch in batches for target in batch.targets]
    return sum(counts) / len(batches)
