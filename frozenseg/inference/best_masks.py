"""Semantic output of OVSeg's demo: each class shows its best mask, the rest stays unlabelled."""

import torch
from torch import Tensor


def best_mask_maps(
    class_probs: Tensor, masks: Tensor, judged: Tensor, *, num_shown: int | None = None
) -> Tensor:
    """Sums the class scores of every class's best judged mask over that mask's pixels.

    A mask that is best for several classes counts once. Pixels outside all chosen masks are 0.

    Args:
        class_probs: (Q, K + 1), void last.
        masks: (Q, H, W) bool.
        judged: (Q,) bool, masks that the region classifier could see.
        num_shown: only these first classes choose a mask, so that "others", added to a single
            word, does not; None: all.

    Returns:
        (K, H, W) class scores; all 0 if no mask was judged.
    """
    scores = class_probs[judged, :-1]
    if not len(scores):
        return scores.new_zeros(class_probs.shape[1] - 1, *masks.shape[1:])
    chosen = scores[:, :num_shown].argmax(dim=0).unique()
    return torch.einsum("qk,qhw->khw", scores[chosen], masks[judged][chosen].to(scores.dtype))
