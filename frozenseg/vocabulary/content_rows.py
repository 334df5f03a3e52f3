"""Text rows that depend on the image, for the region classifier alone (MAFT+)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from frozenseg.vocabulary.text_classifier import TextClassifier


@dataclass(frozen=True, eq=False)
class ContentRows:
    """Rows of the words for the proposer, and rows of words and image for the region classifier.

    Args:
        words: the rows of the words alone.
        transfer: (S, D) rows and a (1, C, h, w) CLIP map to the rows of this image.
        of_regions: these are the rows of the region classifier.
    """

    words: TextClassifier
    transfer: Callable[[Tensor, Tensor], Tensor]
    of_regions: bool = False

    @property
    def num_classes(self) -> int:
        """K, without void."""
        return self.words.num_classes

    def to(self, device: torch.device | str) -> "ContentRows":
        """Returns a copy on another device."""
        return replace(self, words=self.words.to(device))

    def for_image(self, clip_map: Tensor | None) -> TextClassifier:
        """Returns the rows for one image; the proposer's are those of the words.

        Raises:
            ValueError: the region classifier's rows were asked for without a map.
        """
        if not self.of_regions:
            return self.words
        if clip_map is None:
            raise ValueError("text rows that depend on the image need its CLIP map")
        return replace(self.words, embeddings=self.transfer(self.words.embeddings, clip_map))

    def for_regions(self) -> "ContentRows":
        """Returns the rows of the region classifier."""
        return replace(self, of_regions=True)

    def logits(
        self, embeddings: Tensor, logit_scale: Tensor | float, *, void: Tensor | None = None
    ) -> Tensor:
        """Returns scaled cosines with the rows of the words; see ``TextClassifier.logits``."""
        return self.words.logits(embeddings, logit_scale, void=void)
