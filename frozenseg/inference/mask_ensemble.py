"""The mask ensemble (eq. 4): SAM's zero-shot masks have a say in the maps of unseen classes."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from frozenseg.inference.semantic import class_maps
from frozenseg.ops.maps import resize_maps
from frozenseg.ops.precision import full_precision
from frozenseg.sam_masks.generator import MaskSource


class MaskEnsemble(NamedTuple):
    """Where SAM's masks come from and how much they weigh (eq. 4)."""

    source: MaskSource
    epsilon: float = 0.2  # weight of the masks for unseen classes
    threshold: float = 0.5  # of the best unseen class, for a mask to take part


class Proposals(NamedTuple):
    """SAM's masks of one image that are sure to show an unseen class."""

    mask_logits: Tensor  # (P, H, W), covering the image without padding, at any size
    class_probs: Tensor  # (P, K + 1), void last


def masks_on_cells(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(P, H, W) logits as CLIP's (h, w) cells see them, for classifying what is under each mask.

    The nearest pixel counts. The mask is stretched over all cells, those of the padding included:
    published numbers are made so. (The official code then pads to 32 cells, which moves regions;
    we do not.)
    """
    return F.interpolate(mask_logits[None], size=size, mode="nearest")[0]


def select_proposals(
    mask_logits: Tensor,
    class_logits: Tensor,
    seen: Tensor,
    *,
    threshold: float = 0.5,
    visible: Tensor | None = None,
) -> Proposals:
    """Keeps the (P, H, W) masks whose best unseen class has a probability above ``threshold``.

    The paper asks this of any class (sec. 3.2), the official code of unseen ones only, as here:
    published numbers depend on it.

    Args:
        class_logits: (P, K + 1), CLIP's own, void last.
        seen: (K,) bool.
        visible: (P,) bool, masks that CLIP sees something of; the others take no part. (The
            official code lets them: all of them have the class of nothing at all.)
    """
    probs = full_precision(class_logits).softmax(dim=-1)
    unseen = probs[:, :-1].masked_fill(seen, 0)
    keep = unseen.amax(dim=-1) > threshold
    if visible is not None:
        keep &= visible
    return Proposals(mask_logits[keep], probs[keep])


def ensemble_masks(
    maps: Tensor, proposals: Proposals, seen: Tensor, *, epsilon: float = 0.2
) -> Tensor:
    """Mixes (K, H, W) class maps with those of the proposals, for unseen classes alone (eq. 4).

    Without a proposal, or with ``epsilon`` 0, the maps stay as they are.
    """
    if not len(proposals.mask_logits):
        return maps
    masks = resize_maps(proposals.mask_logits, (maps.shape[-2], maps.shape[-1]))
    zero_shot = class_maps(proposals.class_probs, masks.sigmoid())
    mixed = (1 - epsilon) * maps + epsilon * zero_shot
    return mixed.where(~seen[:, None, None], maps)
