"""The pixel decoder of MaskFormer: a plain feature pyramid."""

import torch.nn.functional as F
from torch import Tensor, nn

from frozenseg.modeling.maskformer.convolution import ConvNorm
from frozenseg.ops.maps import resize_maps, size_of


class FeaturePyramid(nn.Module):
    """Adds each map, upsampled to its nearest cells, to the next finer one (MaskFormer, sec. 3.3).

    Args:
        in_channels: channels of res2 to res5.
        dim: channels inside.
        mask_dim: channels of the mask features.
        num_groups: groups of every GroupNorm.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        dim: int = 256,
        mask_dim: int = 256,
        num_groups: int = 32,
    ) -> None:
        super().__init__()
        *finer, coarsest = in_channels
        self.laterals = nn.ModuleList(
            ConvNorm(channels, dim, 1, norm=nn.GroupNorm(num_groups, dim)) for channels in finer
        )
        self.outputs = nn.ModuleList(
            ConvNorm(channels, dim, 3, norm=nn.GroupNorm(num_groups, dim))
            for channels in (*(dim for _ in finer), coarsest)
        )
        self.mask_features = nn.Conv2d(dim, mask_dim, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
        assert self.mask_features.bias is not None
        nn.init.zeros_(self.mask_features.bias)

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        """(B, C, h, w) maps res2 to res5 to (B, C, H / 4, W / 4) mask features."""
        *finer, coarsest = levels
        top_down = F.relu(self.outputs[-1](coarsest))
        steps = list(zip(finer, self.laterals, self.outputs, strict=False))
        for level, lateral, output in reversed(steps):
            detail = lateral(level)
            upsampled = resize_maps(top_down, size_of(detail), mode="nearest")
            top_down = F.relu(output(detail + upsampled))
        return self.mask_features(top_down)
