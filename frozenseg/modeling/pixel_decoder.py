"""From CLIP's maps to mask features and three levels of memory; SAM's map beside them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozenseg.modeling.deformable_encoder import DeformableEncoder
from frozenseg.ops.precision import full_precision

NUM_GROUPS = 32  # of every GroupNorm


class PixelFeatures(NamedTuple):
    """The input of the transformer decoder."""

    mask_features: Tensor  # (B, C, H / 4, W / 4)
    levels: list[Tensor]  # (B, C, h, w) at strides 32, 16, 8
    sam: Tensor | None  # (B, C, h', w'): SAM's map after the SAM branch, half the embedding's size


class PixelDecoder(nn.Module):
    """Multi-scale deformable attention over res5, res4, res3, then one top-down step to res2.

    ``sam_branch`` refines SAM's embedding beside it; without one there is no SAM (FC-CLIP).
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, int, int, int],  # res2 .. res5
        dim: int,
        mask_dim: int,
        encoder: DeformableEncoder,
        sam_branch: "SamBranch | None" = None,
    ) -> None:
        super().__init__()
        res2, res3, res4, res5 = in_channels
        projections = [nn.Conv2d(channels, dim, 1) for channels in (res5, res4, res3)]
        self.projections = nn.ModuleList(
            nn.Sequential(convolution, nn.GroupNorm(NUM_GROUPS, dim)) for convolution in projections
        )
        self.encoder = encoder
        lateral = nn.Conv2d(res2, dim, 1, bias=False)
        smooth = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.lateral = nn.Sequential(lateral, nn.GroupNorm(NUM_GROUPS, dim))
        self.smooth = nn.Sequential(smooth, nn.GroupNorm(NUM_GROUPS, dim), nn.ReLU())
        self.mask_features = nn.Conv2d(dim, mask_dim, 1)
        self.sam_branch = sam_branch
        for convolution in projections:
            nn.init.xavier_uniform_(convolution.weight)
        for convolution in (lateral, smooth, self.mask_features):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        _zero_biases(*projections, self.mask_features)

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def forward(self, clip_levels: tuple[Tensor, ...], sam: Tensor | None) -> PixelFeatures:
        """CLIP's res2 .. res5 and SAM's (B, C', h, w) embedding; in float32 also under autocast."""
        res2, res3, res4, res5 = (full_precision(level) for level in clip_levels)
        maps = zip(self.projections, (res5, res4, res3), strict=True)
        levels = self.encoder([project(level) for project, level in maps])
        lateral = self.lateral(res2)
        top_down = F.interpolate(
            levels[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False
        )
        mask_features = self.mask_features(self.smooth(lateral + top_down))
        branch = (
            None if sam is None or self.sam_branch is None else self.sam_branch(full_precision(sam))
        )
        return PixelFeatures(mask_features, levels, branch)


class SamBranch(nn.Module):
    """Halves SAM's embedding and refines it with a deformable encoder of its own (sec. 4.3)."""

    def __init__(self, *, in_channels: int, dim: int, encoder: DeformableEncoder) -> None:
        super().__init__()
        halve = nn.Conv2d(in_channels, dim, 3, stride=2, padding=1)
        self.reduce = nn.Sequential(halve, nn.GroupNorm(NUM_GROUPS, dim), nn.ReLU())
        self.encoder = encoder
        nn.init.kaiming_uniform_(halve.weight, a=1)
        _zero_biases(halve)

    def forward(self, sam: Tensor) -> Tensor:
        return self.encoder([self.reduce(sam)])[0]


def _zero_biases(*convolutions: nn.Conv2d) -> None:
    for convolution in convolutions:
        assert convolution.bias is not None, "made with a bias above"
        nn.init.zeros_(convolution.bias)
