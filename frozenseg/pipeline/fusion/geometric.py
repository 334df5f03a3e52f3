"""Fusion "geometric": the class ensemble of eq. 3, a weighted geometric mean of probabilities."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from frozenseg.ops.precision import full_precision


@dataclass(frozen=True, kw_only=True)
class Geometric:
    """Weighs the decoder against CLIP, separately for seen and unseen classes (eq. 3).

    Both weights 0 leave the decoder alone.

    Args:
        alpha: weight of CLIP for seen classes, 0 to 1.
        beta: weight of CLIP for unseen classes, 0 to 1.
        valid_only: ignore CLIP for masks without a cell on its map (ResNet towers).
    """

    alpha: float = 0.4
    beta: float = 0.8
    valid_only: bool = False

    @property
    def uses_regions(self) -> bool:
        return bool(self.alpha or self.beta)

    def __call__(
        self,
        proposer_logits: Tensor | None,
        region_logits: Tensor | None,
        seen: Tensor,
        judged: Tensor | None,
    ) -> Tensor:
        """Returns (Q, K + 1) class probabilities, void last; see ``frozenseg.pipeline.Fusion``."""
        if proposer_logits is None:
            raise ValueError("the geometric fusion needs a proposer with class logits")
        if region_logits is None:
            return proposer_logits.float().softmax(dim=-1)
        return ensemble_classes(
            proposer_logits,
            region_logits,
            seen,
            alpha=self.alpha,
            beta=self.beta,
            valid=judged if self.valid_only else None,
        )


def ensemble_classes(
    in_vocab_logits: Tensor,
    out_vocab_logits: Tensor,
    seen: Tensor,
    *,
    alpha: float = 0.4,
    beta: float = 0.8,
    valid: Tensor | None = None,
) -> Tensor:
    """Returns the class probabilities of each query, void last (eq. 3).

    The mean has weight ``alpha`` (``beta``) on CLIP for classes seen (unseen) in training and is
    renormalised over the classes. The decoder alone decides on void, which scales the rest. The
    computation works on logarithms, so that a probability of zero stays zero.

    Args:
        in_vocab_logits: (..., K + 1) of the decoder, void last.
        out_vocab_logits: (..., K) of CLIP.
        seen: (K,) bool.
        alpha: weight of CLIP for seen classes.
        beta: weight of CLIP for unseen classes.
        valid: (...) bool, queries that CLIP may judge; the others keep the decoder's classes.
    """
    in_vocab, void = without_void(in_vocab_logits)
    out_vocab = full_precision(out_vocab_logits).log_softmax(dim=-1)
    weight = torch.where(seen, alpha, beta)
    if valid is not None:
        weight = weight * valid[..., None]
    classes = _mean_logs(in_vocab, out_vocab, weight).softmax(dim=-1)
    return torch.cat([classes * (1 - void), void], dim=-1)


def without_void(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns log-probabilities over the classes alone, and void's probability (..., 1)."""
    logits = full_precision(logits)
    return F.log_softmax(logits[..., :-1], dim=-1), logits.softmax(dim=-1)[..., -1:]


def _mean_logs(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    # 0 times the logarithm of an impossible class is 0: a weight of 0 or 1 leaves one classifier
    # alone
    lowest = torch.finfo(first.dtype).min / 4
    return (1 - weight) * first.clamp(min=lowest) + weight * second.clamp(min=lowest)
