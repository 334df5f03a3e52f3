"""Fusion "COAT": CLIP's certainty about a class lowers void, before any other rule.

OVRCOAT, https://arxiv.org/abs/2603.21386: v' = v (1 - w max_k o_k), where v is the proposer's
probability of void and o are CLIP's probabilities of the classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from frozenseg.ops.precision import full_precision
from frozenseg.pipeline.protocols import Fusion


@dataclass(frozen=True, kw_only=True)
class Coat:
    """Lowers void in the proposer's logits and leaves the rest to another rule.

    Args:
        fusion: the rule; it takes void from the proposer.
        trust: w, 0 to 1; 0 changes nothing.
    """

    fusion: Fusion
    trust: float = 0.5

    uses_regions = True

    def __call__(
        self,
        proposer_logits: Tensor | None,
        region_logits: Tensor | None,
        seen: Tensor,
        judged: Tensor | None,
    ) -> Tensor:
        """Returns (Q, K + 1) class probabilities, void last; see ``frozenseg.pipeline.Fusion``."""
        assert region_logits is not None, "this rule uses regions"
        if proposer_logits is None:
            raise ValueError("COAT needs a proposer with class logits")
        lowered = lower_void(proposer_logits, region_logits, trust=self.trust)
        return self.fusion(lowered, region_logits, seen, judged)


def lower_void(in_vocab_logits: Tensor, out_vocab_logits: Tensor, *, trust: float) -> Tensor:
    """Returns the proposer's logits with another void, so that its probability is v'.

    The classes keep their logits, hence their proportions. A mask without a cell on CLIP's map is
    treated like any other, as in the official code.

    Args:
        in_vocab_logits: (..., K + 1) of the proposer, void last.
        out_vocab_logits: (..., K) of CLIP.
        trust: w, 0 to 1.
    """
    logits = full_precision(in_vocab_logits)
    trusted = trust * full_precision(out_vocab_logits).softmax(dim=-1).amax(dim=-1)
    classes = logits[..., :-1].logsumexp(dim=-1)
    # v' / (1 - v') = (1 - w o) / ((1 - v) / v + w o), whose parts do not cancel
    rest = torch.logaddexp(classes - logits[..., -1], trusted.log())
    void = classes + torch.log1p(-trusted) - rest
    return torch.cat([logits[..., :-1], void[..., None]], dim=-1)
