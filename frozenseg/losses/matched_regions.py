"""OVR's loss: CLIP should name the masks that are matched with a target (OVRCOAT).

https://arxiv.org/abs/2603.21386.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from frozenseg.losses.criterion import MatchedTargets
from frozenseg.losses.region_losses import RegionPredictions
from frozenseg.structures import Target


class MatchedRegionLoss:
    """Cross-entropy of CLIP's classes of the last layer's matched masks, mean over the pairs.

    As in the official code, whose weights were trained so, probabilities take the place of logits:
    the softmax is applied twice, which bounds the loss and its gradient.

    Args:
        weight: of the loss.
    """

    def __init__(self, *, weight: float = 0.1) -> None:
        self.weight = weight

    def __call__(
        self, regions: RegionPredictions, _targets: Sequence[Target], matches: MatchedTargets
    ) -> dict[str, Tensor]:
        """Returns the weighted loss; see ``RegionLoss``."""
        probs = regions.class_logits.float().softmax(dim=-1).flatten(0, 1)
        total = F.cross_entropy(probs[matches.query_rows], matches.class_ids, reduction="sum")
        return {"loss_oov_ce": self.weight * total / max(len(matches.class_ids), 1)}
