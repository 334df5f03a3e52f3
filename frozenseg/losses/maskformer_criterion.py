"""The training loss of MaskFormer: focal, dice and cross-entropy over all pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from frozenseg.losses.criterion import (
    average_over_processes,
    dice_loss,
    matched_rows,
    packed_for,
    weighted_losses,
)
from frozenseg.losses.maskformer_matcher import PixelMatcher
from frozenseg.losses.matcher import PackedTargets
from frozenseg.ops.maps import size_of
from frozenseg.structures import Prediction, Target


class MaskFormerCriterion:
    """Weighted losses of the predictions of every layer, each matched with the targets on its own.

    Three terms per layer: cross-entropy over classes and no-object, which weighs
    ``no_object_weight``; focal and dice loss of the matched masks, upsampled bilinearly to the size
    of the targets. Pixels outside a target are background for it, padding included. Mask terms are
    summed over matches and divided by the average number of targets per process (at least 1).

    Args:
        matcher: also holds alpha and gamma of the focal loss.
        class_weight, mask_weight, dice_weight: weights of cross-entropy, focal loss and dice loss.
        no_object_weight: weight of no-object in the cross-entropy.
        deep_supervision: train every layer, not the last one alone.
    """

    def __init__(
        self,
        *,
        matcher: PixelMatcher,
        class_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        no_object_weight: float = 0.1,
        deep_supervision: bool = True,
    ) -> None:
        self.matcher = matcher
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.no_object_weight = no_object_weight
        self.deep_supervision = deep_supervision

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Sequence[Target],
        *,
        num_targets: float | None = None,
    ) -> dict[str, Tensor]:
        """Returns the weighted losses; training minimises their sum.

        ``loss_ce``, ``loss_mask``, ``loss_dice`` belong to the last layer, ``loss_ce_0`` ... to the
        layers before it.

        Args:
            predictions: one per layer.
            targets: one per image; all masks have the size of the padded batch.
            num_targets: this process's part in the divisor of the mask terms; by default its number
                of targets.

        Raises:
            ValueError: targets disagree with each other or with the batch.
            FloatingPointError: the predictions have diverged.
        """
        supervised = predictions if self.deep_supervision else predictions[-1:]
        packed = packed_for(predictions, targets)
        device = predictions[-1].mask_logits.device
        with torch.autocast(device.type, enabled=False):
            matches = self.matcher(supervised, packed)
            pairs = matched_rows(matches, predictions[-1].class_logits, packed.counts)
            count = len(packed.class_ids) if num_targets is None else num_targets
            divisor = average_over_processes(count, device)
            return weighted_losses(
                self,
                supervised,
                packed,
                pairs,
                lambda layer: self._mask_losses(supervised[layer], packed, pairs[layer]),
                divisor=divisor,
            )

    def _mask_losses(
        self, prediction: Prediction, targets: PackedTargets, pairs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns focal and dice loss, each summed over the matches."""
        query_rows, target_rows = pairs
        matched = prediction.mask_logits.flatten(0, 1).index_select(0, query_rows).float()
        if not len(matched):
            return matched.sum(), matched.sum()  # zeros with a gradient
        logits = F.interpolate(
            matched[:, None], size_of(targets.masks), mode="bilinear", align_corners=False
        ).flatten(1)
        labels = targets.masks[target_rows].flatten(1).float()
        focal = sigmoid_focal_loss(logits, labels, self.matcher.alpha, self.matcher.gamma)
        return focal.mean(dim=1).sum(), dice_loss(logits.sigmoid(), labels).sum()
