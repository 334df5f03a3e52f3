"""Fusion "CLIP alone": the region classifier decides, the proposer's classes are ignored."""

from torch import Tensor
from torch.nn import functional as F

from frozenseg.ops.precision import full_precision


class ClipAlone:
    """Takes the region classifier's probabilities; void has none.

    A mask that the classifier could not see has probability 0 for every class.
    """

    uses_regions = True

    def __call__(
        self,
        _proposer_logits: Tensor | None,
        region_logits: Tensor | None,
        _seen: Tensor,
        judged: Tensor | None,
    ) -> Tensor:
        """Returns (Q, K + 1) class probabilities, void last; see ``frozenseg.pipeline.Fusion``."""
        assert region_logits is not None and judged is not None, "this rule uses regions"
        classes = full_precision(region_logits).softmax(dim=-1) * judged[:, None]
        return F.pad(classes, (0, 1))
