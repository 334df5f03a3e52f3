"""The masks that train a Mask-Adapter: annotated ones, and predicted ones with their partners.

https://arxiv.org/abs/2412.04533, sec. 3.3 and 3.4.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.ops.maps import Size, resize_maps, size_of
from frozenseg.structures import Target

PADDING = -1  # class id of a mask that fills a row up: it has no pixel and no loss
PREDICTED = 0.4  # least probability of a predicted pixel when masks are matched
ANNOTATED = 0.5  # above this share, a cell belongs to an annotated mask when masks are matched


class LabelledMasks(NamedTuple):
    """A fixed number of masks of one image with their classes."""

    masks: Tensor  # (N, H, W) in [0, 1]
    class_ids: Tensor  # (N,) int64, PADDING for rows without a mask


class MaskPairs(NamedTuple):
    """Predicted masks and the annotated masks that they match, at the decoder's size."""

    predicted: Tensor  # (N, h, w), 0 or 1
    annotated: Tensor  # (N, h, w) in [0, 1]
    class_ids: Tensor  # (N,) int64, PADDING for rows without a pair


def annotated_masks(target: Target, size: Size, *, count: int) -> LabelledMasks:
    """Draws ``count`` annotated masks of an image, all of them if there are no more.

    Args:
        target: of the image; masks without a pixel are left out.
        size: of the padded image, pixels.
        count: rows of the result.
    """
    masks, class_ids = _placed(target, size)
    visible = masks.flatten(1).any(dim=1)
    return LabelledMasks(*_drawn((masks[visible], class_ids[visible]), count))


@torch.no_grad()
def matching_pairs(
    mask_logits: Tensor, target: Target, size: Size, *, least: float, threshold: float, count: int
) -> MaskPairs:
    """Draws a matching prediction for every annotated mask, and ``count`` of these pairs.

    Args:
        mask_logits: (Q, h, w) of the decoder over the padded image.
        target: of the image.
        size: of the padded image, pixels.
        least: a prediction matches if its IoU is above this.
        threshold: a cell is in the predicted mask if its probability is above this.
        count: rows of the result.
    """
    masks, class_ids = _placed(target, size)
    annotated = resize_maps(masks, size_of(mask_logits))
    fits = mask_iou(mask_logits, annotated) > least  # (Q, N)
    found = fits.any(dim=0)
    if not found.any():  # multinomial needs a row
        chosen = found.new_zeros(0, dtype=torch.int64)
    else:
        chosen = fits[:, found].T.float().multinomial(1)[:, 0]
    predicted = (mask_logits[chosen].sigmoid() > threshold).to(annotated)
    rows = predicted, annotated[found], class_ids[found]
    return MaskPairs(*_drawn(rows, count))


def mask_iou(mask_logits: Tensor, annotated: Tensor) -> Tensor:
    """Returns (Q, N) IoU of (Q, h, w) predictions with (N, h, w) annotated masks in [0, 1]."""
    ours = (mask_logits.sigmoid() >= PREDICTED).flatten(1).float()
    theirs = (annotated > ANNOTATED).flatten(1).float()
    overlap = ours @ theirs.T
    union = ours.sum(dim=1)[:, None] + theirs.sum(dim=1) - overlap
    return overlap / (union + 1e-6)


def mixed_masks(annotated: LabelledMasks, pairs: MaskPairs) -> LabelledMasks:
    """Returns annotated masks, then predicted masks, then the partners of these.

    Both sides of a pair have passed through the decoder's size, and are soft at their edges.
    """
    size = size_of(annotated.masks)
    sides = (resize_maps(side, size) for side in (pairs.predicted, pairs.annotated))
    return LabelledMasks(
        torch.cat([annotated.masks, *sides]),
        torch.cat([annotated.class_ids, pairs.class_ids, pairs.class_ids]),
    )


def _placed(target: Target, size: Size) -> tuple[Tensor, Tensor]:
    """Returns the masks as floats over the padded image, and their classes."""
    height, width = size_of(target.masks)
    padding = (0, size[1] - width, 0, size[0] - height)
    return F.pad(target.masks.float(), padding), target.class_ids


def _drawn(rows: tuple[Tensor, ...], count: int) -> list[Tensor]:
    """Returns ``count`` random rows of each tensor, filled up with padding; classes come last."""
    *masks, class_ids = rows
    kept = torch.arange(len(class_ids), device=class_ids.device)
    if len(kept) > count:
        kept = torch.randperm(len(class_ids), device=class_ids.device)[:count]
    missing = count - len(kept)
    padded = [F.pad(each[kept], (0, 0, 0, 0, 0, missing)) for each in masks]
    return [*padded, F.pad(class_ids[kept], (0, missing), value=PADDING)]
