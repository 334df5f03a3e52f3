"""MAFT+'s ranking loss: the better a mask, the higher CLIP's probability of its class.

https://arxiv.org/abs/2408.00744.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.losses.region_losses import RegionPredictions
from frozenseg.ops.maps import Size, resize_maps, size_of
from frozenseg.structures import Target


class RankingLoss:
    """Compares CLIP's probability of each target's class with the masks' overlap with the target.

    Args:
        weight: of the loss.
    """

    def __init__(self, *, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(
        self, regions: RegionPredictions, targets: Sequence[Target], _matches: object
    ) -> dict[str, Tensor]:
        """Returns the weighted loss; see ``RegionLoss``."""
        probs = regions.class_logits.float().softmax(dim=-1)
        rows = [
            (image_probs[:, target.class_ids].T, ranks_of(logits, target, regions.padded_size))
            for image_probs, logits, target in zip(probs, regions.mask_logits, targets, strict=True)
        ]
        found, wanted = (torch.cat(side) for side in zip(*rows, strict=True))
        total = F.smooth_l1_loss(found, wanted, reduction="sum")
        return {"loss_ranking": self.weight * total / max(found.numel(), 1)}


@torch.no_grad()
def ranks_of(mask_logits: Tensor, target: Target, size: Size) -> Tensor:
    """Returns (N, Q) overlaps of all masks with each target; 0 is the worst mask, 1 the best.

    Args:
        mask_logits: (Q, h, w) over the padded image.
        target: of the image.
        size: of the padded image, pixels.
    """
    height, width = size_of(target.masks)
    wanted = F.pad(target.masks.float(), (0, size[1] - width, 0, size[0] - height)).flatten(1)
    masks = resize_maps(mask_logits.float().sigmoid(), size).flatten(1)
    overlap = wanted @ masks.T
    iou = overlap / (wanted.sum(dim=1)[:, None] + masks.sum(dim=1) - overlap + 1e-7)
    least, most = iou.aminmax(dim=1, keepdim=True)
    return (iou - least) / (most - least + 1e-8)
