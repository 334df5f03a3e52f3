"""The backbone Swin (Liu et al., ICCV 2021), laid out as for dense prediction.

timm's Swin is not used: where a map is not a multiple of the window, it shifts before it pads,
whereas the published weights were trained with padding first.
"""

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from timm.layers.mlp import Mlp
from torch import Tensor, nn

BLOCKED = -100.0  # added to the attention of tokens that the shift made neighbours


class SwinTransformer(nn.Module):
    """Four stages of attention within windows, with a norm on the output of each.

    Windows keep their size on maps of any size: maps are padded with zeros after the first norm of
    each block. Padded tokens are attended to.

    Args:
        dim: channels of the first stage; they double at each stage.
        depths: number of blocks of each stage; every second one has shifted windows.
        num_heads: attention heads of each stage.
        window: side of a window, tokens.
        drop_path_rate: probability of skipping the last block's branches; it grows linearly from 0.
    """

    def __init__(
        self,
        *,
        dim: int = 128,
        depths: tuple[int, ...] = (2, 2, 18, 2),
        num_heads: tuple[int, ...] = (4, 8, 16, 32),
        window: int = 12,
        drop_path_rate: float = 0.3,
    ) -> None:
        super().__init__()
        self.channels = tuple(dim * 2**index for index in range(len(depths)))
        self.patch_embed = PatchEmbedding(dim)
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        self.layers = nn.ModuleList(
            SwinStage(
                dim=channels,
                num_heads=heads,
                window=window,
                drop_path_rates=[next(rates) for _ in range(depth)],
                downsample=channels != self.channels[-1],
            )
            for channels, heads, depth in zip(self.channels, num_heads, depths, strict=True)
        )
        for index, channels in enumerate(self.channels):
            self.add_module(f"norm{index}", nn.LayerNorm(channels))
        self.apply(_initialise)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns (B, C, h, w) maps at strides 4, 8, 16, 32 of (B, 3, H, W) images."""
        features = self.patch_embed(images)
        levels = []
        for index, stage in enumerate(self.layers):
            output, features = stage(features)
            normed = self.get_submodule(f"norm{index}")(output)
            levels.append(normed.permute(0, 3, 1, 2).contiguous())
        return tuple(levels)


class PatchEmbedding(nn.Module):
    """Patches of 4 x 4 pixels as tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 4, stride=4)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, H / 4, W / 4, C)."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class SwinStage(nn.Module):
    """Blocks at one resolution, and the step to the next one."""

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        window: int,
        drop_path_rates: list[float],
        downsample: bool,
    ) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            SwinBlock(
                dim=dim,
                num_heads=num_heads,
                window=window,
                shift=window // 2 if index % 2 else 0,
                drop_path_rate=rate,
            )
            for index, rate in enumerate(drop_path_rates)
        )
        self.downsample = PatchMerging(dim) if downsample else None

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the (B, h, w, C) output and the input of the next stage."""
        bias = shift_bias(features, self.window)
        for block in self.blocks:
            features = block(features, bias)
        return features, features if self.downsample is None else self.downsample(features)


class SwinBlock(nn.Module):
    """Attention within windows and a perceptron, each after a norm and with a residual."""

    def __init__(
        self, *, dim: int, num_heads: int, window: int, shift: int, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim=dim, num_heads=num_heads, window=window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, features: Tensor, bias: Tensor) -> Tensor:
        """(B, h, w, C) to the same shape; ``bias`` is that of ``shift_bias``."""
        features = features + self.drop_path(self._attend(self.norm1(features), bias))
        return features + self.drop_path(self.mlp(self.norm2(features)))

    def _attend(self, features: Tensor, bias: Tensor) -> Tensor:
        height, width = features.shape[1:3]
        features = padded_to_windows(features, self.window)
        size = features.shape[1:3]
        if self.shift:
            features = features.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = self.attn(windows_of(features, self.window), bias if self.shift else None)
        features = map_of_windows(windows, size, self.window)
        if self.shift:
            features = features.roll((self.shift, self.shift), dims=(1, 2))
        return features[:, :height, :width]


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias per relative position."""

    relative_position_index: Tensor

    def __init__(self, *, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * window - 1) ** 2, num_heads)
        )
        index = relative_position_index(window)
        self.register_buffer("relative_position_index", index, persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, bias: Tensor | None) -> Tensor:
        """(B, N, T, C) tokens of N windows to the same shape.

        Args:
            windows: T tokens per window.
            bias: (N, T, T), added to the attention logits.
        """
        qkv = self.qkv(windows).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)  # each (B, N, M, T, c)
        position = self.relative_position_bias_table[self.relative_position_index]
        position = position.permute(2, 0, 1)
        total = position if bias is None else position + bias[:, None]
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=total.to(query.dtype)
        )
        return self.proj(attended.transpose(2, 3).flatten(3))


class PatchMerging(nn.Module):
    """Halves a map: 2 x 2 tokens become one of twice the width; odd sides are padded with zeros."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, C) to (B, ceil(h / 2), ceil(w / 2), 2 C)."""
        features = padded_to_windows(features, 2)
        corners = [features[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


def padded_to_windows(features: Tensor, window: int) -> Tensor:
    """Pads a (B, h, w, C) map with zeros, right and bottom, to multiples of ``window``."""
    height, width = features.shape[1:3]
    return F.pad(features, (0, 0, 0, -width % window, 0, -height % window))


def windows_of(features: Tensor, window: int) -> Tensor:
    """(B, h, w, C), both sides multiples of ``window``, to (B, N, T, C), row by row."""
    split = features.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def map_of_windows(windows: Tensor, size: torch.Size, window: int) -> Tensor:
    """Reverses ``windows_of`` for a map of ``size``."""
    height, width = size
    split = windows.unflatten(2, (window, window)).unflatten(1, (height // window, width // window))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shift_bias(features: Tensor, window: int) -> Tensor:
    """Returns (N, T, T): ``BLOCKED`` between tokens that are not neighbours in the (padded) map.

    Shifting moves the first rows and columns to the end, where they share windows with the last.
    """
    height, width = padded_to_windows(features[:1, ..., :1], window).shape[1:3]
    rows, columns = (_parts(side, window, device=features.device) for side in (height, width))
    parts = windows_of((3 * rows[:, None] + columns)[None, ..., None], window)[0, ..., 0]
    apart = parts[:, :, None] != parts[:, None, :]
    return torch.zeros_like(apart, dtype=features.dtype).masked_fill(apart, BLOCKED)


def relative_position_index(window: int) -> Tensor:
    """(T, T) int64: the row of the bias table for each pair of tokens of a window."""
    side = torch.arange(window)
    cells = torch.cartesian_prod(side, side)
    offsets = cells[:, None] - cells[None] + window - 1
    return offsets[..., 0] * (2 * window - 1) + offsets[..., 1]


def _parts(side: int, window: int, *, device: torch.device) -> Tensor:
    """Returns the region of each cell of a shifted row; the last window is cut at the shift."""
    cells = torch.arange(side, device=device)
    return (cells >= side - window).long() + (cells >= side - window // 2).long()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
