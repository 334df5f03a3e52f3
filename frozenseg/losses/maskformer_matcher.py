"""Matching with all pixels of the masks (MaskFormer)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.losses.matcher import Match, PackedTargets, assign, dice_cost, take_rows
from frozenseg.ops.maps import resize_maps, size_of
from frozenseg.structures import Prediction


class PixelMatcher:
    """Assigns each target the query that explains it at the least total cost.

    Like ``HungarianMatcher``, but masks are compared at every pixel of the mask logits, to whose
    size targets are reduced by taking the nearest pixel, and the focal loss replaces the
    cross-entropy::

        cost = - class_weight * probability of the target's class
               + mask_weight  * focal loss of the masks, mean over pixels
               + dice_weight  * (1 - dice overlap of the masks)

    Args:
        class_weight, mask_weight, dice_weight: weights of the three terms.
        alpha: weight of pixels inside a target, in the focal loss; those outside weigh 1 - alpha.
        gamma: power of the focal loss on the error.
    """

    def __init__(
        self,
        *,
        class_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.alpha, self.gamma = alpha, gamma

    @torch.no_grad()
    def __call__(self, predictions: Sequence[Prediction], targets: PackedTargets) -> list[Match]:
        """Returns one match per prediction.

        Raises:
            FloatingPointError: a cost is nan or infinite; the message names the prediction.
        """
        tables = [self.costs(prediction, targets) for prediction in predictions]
        return assign(tables, targets.counts)

    @torch.no_grad()
    def costs(self, prediction: Prediction, targets: PackedTargets) -> Tensor:
        """Returns (B, Q, N) float32; columns past an image's own targets mean nothing."""
        with torch.autocast(prediction.mask_logits.device.type, enabled=False):
            probs = prediction.class_logits.float().softmax(dim=-1)
            class_ids = take_rows(targets.class_ids, targets.padded_ids)
            wanted = class_ids.unsqueeze(1).expand(-1, probs.shape[1], -1)
            logits = prediction.mask_logits.float()
            masks = resize_maps(targets.masks[None].float(), size_of(logits), mode="nearest")[0]
            logits, masks = logits.flatten(2), masks.flatten(1)
            none = logits.new_zeros((*targets.padded_ids.shape, logits.shape[-1]))
            labels = masks[targets.padded_ids] if len(masks) else none
            return (
                self.mask_weight * self._focal_cost(logits, labels)
                + self.dice_weight * dice_cost(logits.sigmoid(), labels)
                - self.class_weight * probs.gather(-1, wanted)
            )

    def _focal_cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Focal loss of all pairs of (B, Q, P) and (B, N, P) rows, mean over pixels: (B, Q, N).

        It is linear in the labels, so that one matrix product does all pairs.
        """
        inside = self.alpha * (-logits).sigmoid() ** self.gamma * F.softplus(-logits)
        outside = (1 - self.alpha) * logits.sigmoid() ** self.gamma * F.softplus(logits)
        total = (inside - outside) @ labels.mT + outside.sum(dim=-1, keepdim=True)
        return total / logits.shape[-1]
