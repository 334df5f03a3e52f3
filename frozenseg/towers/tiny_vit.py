"""MobileSAM's image encoder: TinyViT with SAM's neck (Zhang et al., Faster Segment Anything).

timm's TinyViT halves the map at every stage; this encoder keeps the map's size in the last stage.
Modules have the names that the published weights use.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

IMAGE_SIZE = 1024
OUT_CHANNELS = 256


class TinyVit(nn.Module):
    """Four stages at strides 4, 8, 16 and 16: the first convolves, the others attend in windows."""

    def __init__(
        self,
        *,
        dims: tuple[int, int, int, int] = (64, 128, 160, 320),
        depths: tuple[int, int, int, int] = (2, 2, 6, 2),
        window_sizes: tuple[int, int, int] = (7, 14, 7),
        head_dim: int = 32,
        out_channels: int = OUT_CHANNELS,
        image_size: int = IMAGE_SIZE,
    ) -> None:
        super().__init__()
        self.img_size = image_size
        self.patch_embed = _PatchEmbed(dims[0])
        first = [_InvertedBottleneck(dims[0]) for _ in range(depths[0])]
        self.layers = nn.ModuleList([_Stage(first, _Downsample(dims[0], dims[1], stride=2))])
        for index, (dim, window_size) in enumerate(
            zip(dims[1:], window_sizes, strict=True), start=1
        ):
            blocks = [
                _WindowBlock(dim, num_heads=dim // head_dim, window_size=window_size)
                for _ in range(depths[index])
            ]
            following = dims[index + 1 : index + 2]
            stride = 2 if index == 1 else 1
            down = _Downsample(dim, following[0], stride=stride) if following else None
            self.layers.append(_Stage(blocks, down))
        self.neck = nn.Sequential(
            nn.Conv2d(dims[-1], out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised to (B, C, H / 16, W / 16)."""
        features = self.patch_embed(images)
        for layer in self.layers:
            features = layer(features)
        return self.neck(features)


def build_sam_vit_t() -> Sam:
    """MobileSAM with random weights: its own image encoder, the rest as in SAM."""
    cells = IMAGE_SIZE // 16
    sam = Sam(
        image_encoder=TinyVit(),  # pyright: ignore[reportArgumentType]  (Sam asks for its interface)
        prompt_encoder=PromptEncoder(
            embed_dim=OUT_CHANNELS,
            image_embedding_size=(cells, cells),
            input_image_size=(IMAGE_SIZE, IMAGE_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=OUT_CHANNELS,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=OUT_CHANNELS, num_heads=8, mlp_dim=2048
            ),
        ),
    )
    return sam.eval()


class _ConvNorm(nn.Sequential):
    def __init__(
        self, dim: int, out_dim: int, size: int = 1, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(
            dim, out_dim, size, stride=stride, padding=size // 2, groups=groups, bias=False
        )
        self.add_module("c", conv)
        self.add_module("bn", nn.BatchNorm2d(out_dim))


class _PatchEmbed(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            _ConvNorm(3, dim // 2, 3, stride=2), nn.GELU(), _ConvNorm(dim // 2, dim, 3, stride=2)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.seq(images)


class _InvertedBottleneck(nn.Module):
    """Widens fourfold, convolves each channel by itself and narrows; GELU follows the sum."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(dim, 4 * dim)
        self.conv2 = _ConvNorm(4 * dim, 4 * dim, 3, groups=4 * dim)
        self.conv3 = _ConvNorm(4 * dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        inner = F.gelu(self.conv2(F.gelu(self.conv1(features))))
        return F.gelu(features + self.conv3(inner))


class _Downsample(nn.Module):
    def __init__(self, dim: int, out_dim: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(dim, out_dim)
        self.conv2 = _ConvNorm(out_dim, out_dim, 3, stride=stride, groups=out_dim)
        self.conv3 = _ConvNorm(out_dim, out_dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(features)))))


class _Stage(nn.Module):
    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        for block in self.blocks:
            features = block(features)
        return features if self.downsample is None else self.downsample(features)


class _WindowBlock(nn.Module):
    """Attention inside windows, a depthwise convolution across their borders, and an MLP."""

    def __init__(self, dim: int, *, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.attn = _WindowAttention(dim, num_heads=num_heads, window_size=window_size)
        self.local_conv = _ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = _Mlp(dim)

    def forward(self, features: Tensor) -> Tensor:
        size = self.window_size
        batch, _, height, width = features.shape
        padded = F.pad(features, (0, -width % size, 0, -height % size))
        rows, columns = padded.shape[-2] // size, padded.shape[-1] // size
        windows = padded.unflatten(3, (columns, size)).unflatten(2, (rows, size))
        windows = windows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)
        windows = self.attn(windows).unflatten(1, (size, size)).unflatten(0, (batch, rows, columns))
        attended = windows.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        features = self.local_conv(features + attended[:, :, :height, :width])
        tokens = features.flatten(2).transpose(1, 2)
        return (tokens + self.mlp(tokens)).transpose(1, 2).unflatten(2, (height, width))


class _WindowAttention(nn.Module):
    """Attention among the cells of a window, with a learned bias for each head and offset."""

    bias_ids: Tensor

    def __init__(self, dim: int, *, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))
        cells = torch.arange(window_size**2)
        places = torch.stack([cells // window_size, cells % window_size])
        distances = (places[:, :, None] - places[:, None, :]).abs()
        self.register_buffer(
            "bias_ids", distances[0] * window_size + distances[1], persistent=False
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, C) windows of T cells."""
        query, key, value = (
            self.qkv(self.norm(tokens))
            .unflatten(-1, (self.num_heads, 3, -1))
            .permute(3, 0, 2, 1, 4)
            .unbind(0)
        )
        bias = self.attention_biases[:, self.bias_ids]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(tokens))))
