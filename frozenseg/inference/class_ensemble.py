"""The class ensemble (eq. 3): what the decoder and what CLIP make of each mask's class."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from frozenseg.ops.precision import full_precision


class ClassEnsemble(NamedTuple):
    """How much CLIP's own classification weighs (eq. 3); both weights 0 leave the decoder alone."""

    alpha: float = 0.4  # seen classes
    beta: float = 0.8  # unseen classes
    valid_only: bool = False  # leave CLIP out for masks without a cell (ResNet towers)


def ensemble_classes(
    in_vocab_logits: Tensor,
    out_vocab_logits: Tensor,
    seen: Tensor,
    *,
    alpha: float = 0.4,
    beta: float = 0.8,
    valid: Tensor | None = None,
) -> Tensor:
    """Class probabilities of each query, void last: (..., K + 1) from logits of that shape (eq. 3).

    A geometric mean with weight ``alpha`` (``beta``) on CLIP for classes seen (unseen) in training,
    renormalised over the classes. Void is the decoder's to say and scales the rest. Works on
    logarithms, so that a probability of zero stays zero.

    Args:
        seen: (K,) bool.
        valid: (...) bool, queries that CLIP may spec; the others keep the decoder's classes.
    """
    in_vocab, void = without_void(in_vocab_logits)
    out_vocab = full_precision(out_vocab_logits[..., :-1]).log_softmax(dim=-1)
    weight = torch.where(seen, alpha, beta)
    if valid is not None:
        weight = weight * valid[..., None]
    classes = _mean_logs(in_vocab, out_vocab, weight).softmax(dim=-1)
    return torch.cat([classes * (1 - void), void], dim=-1)


def without_void(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities over the classes alone, and the probability of void (..., 1) among all."""
    logits = full_precision(logits)
    return F.log_softmax(logits[..., :-1], dim=-1), logits.softmax(dim=-1)[..., -1:]


def _mean_logs(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    # 0 times the logarithm of an impossible class is 0: a weight of 0 or 1 leaves one classifier
    # alone
    lowest = torch.finfo(first.dtype).min / 4
    return (1 - weight) * first.clamp(min=lowest) + weight * second.clamp(min=lowest)
