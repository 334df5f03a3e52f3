"""A vocabulary in two CLIP spaces, for a proposer and a region classifier with different CLIPs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from frozenseg.vocabulary.text_classifier import TextClassifier


@dataclass(frozen=True, eq=False)
class TwoSpaces:
    """The rows of the proposer, which stand in front, and those of the region classifier.

    Args:
        proposer, regions: rows of the same classes.
    """

    proposer: TextClassifier
    regions: TextClassifier

    @property
    def num_classes(self) -> int:
        """K, without void."""
        return self.proposer.num_classes

    def to(self, device: torch.device | str) -> "TwoSpaces":
        """Returns a copy on another device."""
        return TwoSpaces(self.proposer.to(device), self.regions.to(device))

    def for_image(self, clip_map: Tensor | None) -> TextClassifier:
        """Returns the proposer's rows."""
        return self.proposer.for_image(clip_map)

    def for_regions(self) -> TextClassifier:
        """Returns the region classifier's rows."""
        return self.regions

    def logits(
        self, embeddings: Tensor, logit_scale: Tensor | float, *, void: Tensor | None = None
    ) -> Tensor:
        """Returns scaled cosines with the proposer's rows; see ``TextClassifier.logits``."""
        return self.proposer.logits(embeddings, logit_scale, void=void)
