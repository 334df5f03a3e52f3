"""The rule of OVSeg's demo: each class shows its best mask, the rest stays unlabelled."""

import torch
from torch import Tensor


def keep_best_masks(class_probs: Tensor, judged: Tensor, *, num_shown: int | None = None) -> Tensor:
    """Returns class probabilities with 0 for every mask that is not the best one of any class.

    ``class_maps`` of the result and of binary masks is the demo's output: pixels outside all kept
    masks are 0 in every class.

    Args:
        class_probs: (Q, K + 1), void last.
        judged: (Q,) bool, masks that the region classifier could see; no other is kept.
        num_shown: only these first classes choose a mask, so that "others", added to a single
            class, does not; None: all.
    """
    scores = class_probs[:, :-1][:, :num_shown].masked_fill(~judged[:, None], -1.0)
    kept = torch.zeros_like(judged)
    kept[scores.argmax(dim=0)] = True
    return class_probs * (kept & judged)[:, None]
