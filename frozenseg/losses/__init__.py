"""The training loss: matching of queries with targets, classification and mask losses."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from frozenseg.losses.criterion import Criterion
from frozenseg.losses.matcher import HungarianMatcher, Match
from frozenseg.structures import Prediction, Target

__all__ = ["Criterion", "HungarianMatcher", "Match", "TrainingLoss"]


class TrainingLoss(Protocol):
    """Weighted losses of the predictions of a batch; each proposer has its own."""

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Sequence[Target],
        *,
        num_targets: float | None = None,
    ) -> dict[str, Tensor]:
        """Returns the losses, whose sum is minimised; see ``Criterion``."""
        ...
