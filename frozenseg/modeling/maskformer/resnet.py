"""The backbone R101c: Detectron2's DeepLab ResNet."""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from frozenseg.modeling.maskformer.convolution import ConvNorm

EXPANSION = 4  # output channels of a block per channel of its 3x3 convolution


class DeepLabResNet(nn.Module):
    """ResNet with a stem of three 3x3 convolutions and strides in the 3x3 convolutions.

    The blocks of res5 have different dilations (multi-grid), but res5 has stride 32.

    Args:
        depths: number of blocks of res2 to res5.
        width: channels of the 3x3 convolutions in res2; they double at each stage.
        stem_channels: output channels of the stem.
        multi_grid: dilation of each block of res5.
        frozen_norm: batch norms keep their statistics, scales and shifts.
        freeze_at: number of parts that do not train; 1 is the stem, 2 is stem and res2.
    """

    def __init__(
        self,
        *,
        depths: tuple[int, int, int, int] = (3, 4, 23, 3),
        width: int = 64,
        stem_channels: int = 128,
        multi_grid: tuple[int, ...] = (1, 2, 4),
        frozen_norm: bool = True,
        freeze_at: int = 2,
    ) -> None:
        super().__init__()
        if len(multi_grid) != depths[-1]:
            raise ValueError(f"res5 has {depths[-1]} blocks, but {len(multi_grid)} dilations")
        self.stem = Stem(stem_channels, frozen_norm=frozen_norm or freeze_at >= 1)
        in_channels, channels = stem_channels, []
        for index, depth in enumerate(depths):
            out_channels = EXPANSION * width * 2**index
            stage = _stage(
                in_channels,
                out_channels,
                stride=1 if index == 0 else 2,
                dilations=multi_grid if index == 3 else (1,) * depth,
                frozen_norm=frozen_norm or freeze_at >= index + 2,
            )
            self.add_module(f"res{index + 2}", stage)
            channels.append(in_channels := out_channels)
        self.channels: tuple[int, ...] = tuple(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for part in list(self.children())[: max(freeze_at, 0)]:
            part.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns res2 to res5 of (B, 3, H, W) images: (B, C, h, w) at strides 4, 8, 16, 32."""
        features = self.stem(images)
        levels = []
        for stage in list(self.children())[1:]:
            features = stage(features)
            levels.append(features)
        return tuple(levels)


class Stem(nn.Module):
    """Three 3x3 convolutions and a max pooling: stride 4."""

    def __init__(self, channels: int, *, frozen_norm: bool) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvNorm(3, half, 3, stride=2, norm=_norm(half, frozen_norm))
        self.conv2 = ConvNorm(half, half, 3, norm=_norm(half, frozen_norm))
        self.conv3 = ConvNorm(half, channels, 3, norm=_norm(channels, frozen_norm))

    def forward(self, images: Tensor) -> Tensor:
        features = images
        for convolution in (self.conv1, self.conv2, self.conv3):
            features = F.relu(convolution(features))
        return F.max_pool2d(features, 3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a shortcut."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilation: int,
        frozen_norm: bool,
    ) -> None:
        super().__init__()
        inner = out_channels // EXPANSION
        self.conv1 = ConvNorm(in_channels, inner, 1, norm=_norm(inner, frozen_norm))
        self.conv2 = ConvNorm(
            inner, inner, 3, stride=stride, dilation=dilation, norm=_norm(inner, frozen_norm)
        )
        self.conv3 = ConvNorm(inner, out_channels, 1, norm=_norm(out_channels, frozen_norm))
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else ConvNorm(
                in_channels, out_channels, 1, stride=stride, norm=_norm(out_channels, frozen_norm)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.conv2(F.relu(self.conv1(features))))
        return F.relu(self.conv3(inner) + self.shortcut(features))


def _stage(
    in_channels: int,
    out_channels: int,
    *,
    stride: int,
    dilations: tuple[int, ...],
    frozen_norm: bool,
) -> nn.Sequential:
    """One block per dilation; the first one changes channels and stride."""
    return nn.Sequential(
        *(
            Bottleneck(
                out_channels if index else in_channels,
                out_channels,
                stride=1 if index else stride,
                dilation=dilation,
                frozen_norm=frozen_norm,
            )
            for index, dilation in enumerate(dilations)
        )
    )


def _norm(channels: int, frozen: bool) -> nn.Module:
    return FrozenBatchNorm2d(channels) if frozen else nn.BatchNorm2d(channels)
