"""Fusion "product": q^(1 - w) c^w of proposer q and region classifier c (OVSeg, sec. 3.1)."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.ops.precision import full_precision


@dataclass(frozen=True, kw_only=True)
class Product:
    """Multiplies the two classifications with exponents; void has no probability.

    The proposer's probabilities are taken after its void column is dropped and are not
    renormalised, so that a mask of nothing scores low in every class. The region classifier's are
    over the classes alone.

    Args:
        exponent: w, of the region classifier, 0 to 1. At 0 the region classifier decides alone, on
            the masks that it could judge.
        invalid: masks that the region classifier could not judge: "exclude" gives them no score
            while another mask of the image was judged; "official" takes c = 1 for them. That is
            larger than any probability, so an empty mask can win pixels through its soft values.
    """

    exponent: float = 0.7
    invalid: Literal["exclude", "official"] = "exclude"

    uses_regions = True

    def __post_init__(self) -> None:
        if not 0 <= self.exponent <= 1:
            raise UserError(
                f"the exponent of the product fusion is {self.exponent}: set it to 0 to 1"
            )
        if self.invalid not in ("exclude", "official"):
            raise UserError(
                f"the product fusion treats invalid masks as '{self.invalid}': set it to exclude "
                "or official"
            )

    def __call__(
        self,
        proposer_logits: Tensor | None,
        region_logits: Tensor | None,
        _seen: Tensor,
        judged: Tensor | None,
    ) -> Tensor:
        """Returns (Q, K + 1) scores, void last; see ``frozenseg.pipeline.Fusion``.

        If no mask of the image was judged, the scores are q^(1 - w), and 0 where w is 0.
        """
        assert region_logits is not None and judged is not None, "this rule uses regions"
        regions = full_precision(region_logits).softmax(dim=-1)
        if not self.exponent:
            return F.pad(regions * judged[:, None], (0, 1))
        if proposer_logits is None:
            raise UserError(
                "the product fusion needs a proposer that classifies its masks: choose one, or "
                "set the exponent to 0"
            )
        proposed = full_precision(proposer_logits).softmax(dim=-1)[:, :-1]
        factor = (regions**self.exponent).masked_fill(~judged[:, None], 1.0)
        scores = proposed ** (1 - self.exponent) * factor
        if self.invalid == "exclude":
            scores = scores * (judged | ~judged.any())[:, None]
        return F.pad(scores, (0, 1))
