"""MAFT+'s representation compensation: a trained image encoder stays near the untouched one.

https://arxiv.org/abs/2408.00744.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.ops.maps import resize_maps, size_of

PARTS = (1, 2, 4)  # pooling windows across the width of the map


def representation_loss(trained: Tensor, untouched: Tensor) -> Tensor:
    """Returns the smooth L1 distance of the pooled profiles of two (B, C, h, w) maps."""
    return F.smooth_l1_loss(map_profiles(trained.float()), map_profiles(untouched.float()))


def map_profiles(features: Tensor) -> Tensor:
    """Returns sums over rows and over columns of a map's positive part at three resolutions.

    Args:
        features: (B, C, h, w). The windows follow from its width before it is made square.

    Returns:
        (N,), all of the batch.
    """
    height, width = size_of(features)
    side = max(height, width)
    square = resize_maps(features.clamp(min=0), (side, side))
    profiles = []
    for parts in PARTS:
        window = max(width // parts, 1)
        pooled = F.avg_pool2d(square, window, stride=window)
        profiles += [pooled.sum(dim=-2).flatten(), pooled.sum(dim=-1).flatten()]
    return torch.cat(profiles)
