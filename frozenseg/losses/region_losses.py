"""What the losses of CLIP's classes of predicted masks have in common."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from frozenseg.losses.criterion import MatchedTargets
from frozenseg.ops.maps import Size
from frozenseg.structures import Target


class RegionPredictions(NamedTuple):
    """CLIP's classification of the masks of a batch."""

    class_logits: Tensor  # (B, Q, K), without void; gradient flows to CLIP's image encoder
    mask_logits: Tensor  # (B, Q, h, w) of the last layer, without gradient
    padded_size: Size  # of the batch, pixels


class RegionLoss(Protocol):
    """A loss of CLIP's classes of predicted masks."""

    def __call__(
        self, regions: RegionPredictions, targets: Sequence[Target], matches: MatchedTargets, /
    ) -> dict[str, Tensor]:
        """Returns the weighted loss by its name.

        Args:
            regions: of the batch.
            targets: one per image.
            matches: pairs of the last layer's queries and the targets.
        """
        ...
