"""The CLIP tower (*what* things are): strided maps, region and text embeddings."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozenseg.ops.maps import resize_maps
from frozenseg.ops.mask_pooling import binary_masks, mask_pool
from frozenseg.towers.frozen import FrozenTower
from frozenseg.towers.roles import ClipFeatures

PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
PIXEL_STD = (68.5005327, 66.6321579, 70.32316305)
TEXT_BATCH = 256  # prompts encoded at once

Tokenize = Callable[[list[str]], Tensor]  # a tokenizer of open_clip


class ClipModel(FrozenTower):
    """The text half of every CLIP tower.

    Args:
        model: an open_clip model.
        tokenize: prompts to token ids.
    """

    embed_dim: int  # width of the space that images and texts share

    def __init__(
        self,
        model: nn.Module,
        *,
        tokenize: Tokenize,
        pixel_mean: tuple[float, ...] = PIXEL_MEAN,
        pixel_std: tuple[float, ...] = PIXEL_STD,
    ) -> None:
        super().__init__(model, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.tokenize = tokenize
        self.embed_dim = _text_width(model)

    @property
    def logit_scale(self) -> Tensor:
        """CLIP's own factor on cosines, at most 100."""
        return self.model.logit_scale.exp().clamp(max=100)

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> Tensor:
        """Returns (N, D) text embeddings, not normalised."""
        device = self.pixel_mean.device
        batches = self.tokenize(prompts).to(device).split(TEXT_BATCH)
        return torch.cat([self.model.encode_text(tokens) for tokens in batches])

    def count_tokens(self, prompt: str) -> tuple[int, int]:
        """Returns a prompt's number of tokens, and how many of them the text encoder reads."""
        tokenizer: Any = self.tokenize
        total = len(tokenizer.encode(prompt)) + 2  # start and end
        return total, min(total, tokenizer.context_length)


class ClipTower(ClipModel, ABC):
    """A CLIP whose image encoder has strided maps; subclasses know the encoder.

    Args:
        model: an open_clip model.
        tokenize: prompts to token ids.
    """

    channels: tuple[int, int, int, int]  # of res2 .. res5
    strides = (4, 8, 16, 32)  # of res2 .. res5, pixels

    @abstractmethod
    def forward(self, images: Tensor) -> ClipFeatures:
        """Returns features of a (B, 3, H, W) normalised batch whose sides are multiples of 32."""

    @abstractmethod
    def embed_regions(self, clip_map: Tensor, mask_logits: Tensor) -> Tensor:
        """Returns (B, Q, D) embeddings, not normalised, of the regions under (B, Q, H, W) masks."""


class ConvNeXtClip(ClipTower):
    """A ConvNeXt CLIP: mask-pooled clip_map features go through the trunk's head and projection.

    Gradient flows to the trunk if a training unfreezes it, and from embeddings to the map.
    """

    def __init__(
        self, model: nn.Module, *, tokenize: Tokenize, **normalization: tuple[float, ...]
    ) -> None:
        super().__init__(model, tokenize=tokenize, **normalization)
        self.channels = tuple(info["num_chs"] for info in self.model.visual.trunk.feature_info)

    @property
    def trunk(self) -> nn.ModuleList:
        """The image encoder below its head."""
        trunk = self.model.visual.trunk
        return nn.ModuleList([trunk.stem, trunk.stages])

    def unfreeze_trunk(self, *, with_scale: bool) -> None:
        """Lets the trunk learn (MAFT+, OVR), and CLIP's factor on cosines if asked."""
        self.trunk.requires_grad_(True)
        self.model.logit_scale.requires_grad_(with_scale)
        self.stored = True

    def forward(self, images: Tensor) -> ClipFeatures:
        trunk = self.model.visual.trunk
        features = trunk.stem(images)
        levels = []
        for stage in trunk.stages:
            features = stage(features)
            levels.append(features.contiguous())
        return ClipFeatures(tuple(levels), trunk.norm_pre(levels[-1]))

    def embed_regions(self, clip_map: Tensor, mask_logits: Tensor) -> Tensor:
        return self.embed_features(mask_pool(clip_map, mask_logits))

    def embed_features(self, features: Tensor) -> Tensor:
        """Returns (..., D) embeddings of (..., C) cells of the map; gradient flows to the cells."""
        visual, rows = self.model.visual, features.flatten(0, -2)
        embeddings = visual.head(visual.trunk.head(rows[..., None, None]))
        return embeddings.unflatten(0, features.shape[:-1])


class ResNetClip(ClipTower):
    """A ResNet CLIP: CLIP's own attention pooling, with each mask as its attention mask.

    The query is the mean of the whole map, with the position of CLIP's class token; keys and values
    are the cells under the mask, with CLIP's positions resized bilinearly. A mask without a cell
    sees nothing: what is left is the bias of the last projection.
    """

    def __init__(
        self, model: nn.Module, *, tokenize: Tokenize, **normalization: tuple[float, ...]
    ) -> None:
        super().__init__(model, tokenize=tokenize, **normalization)
        visual = self.model.visual
        stages = (visual.layer1, visual.layer2, visual.layer3, visual.layer4)
        self.channels = tuple(stage[-1].bn3.num_features for stage in stages)

    @torch.no_grad()
    def forward(self, images: Tensor) -> ClipFeatures:
        visual = self.model.visual
        features = visual.stem(images)
        levels = []
        for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            features = stage(features)
            levels.append(features)
        return ClipFeatures(tuple(levels), levels[-1])

    @torch.no_grad()
    def embed_regions(self, clip_map: Tensor, mask_logits: Tensor) -> Tensor:
        pool = self.model.visual.attnpool
        tokens = clip_map.flatten(2).transpose(1, 2)
        mean = tokens.mean(dim=1, keepdim=True)
        tokens = torch.cat([mean, tokens], dim=1) + _resized_positions(pool, clip_map.shape[-2:])
        keep = binary_masks(mask_logits, clip_map.shape[-2:]).flatten(2)
        empty = ~keep.any(dim=-1, keepdim=True)
        query, key, value = (
            projection(part).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
            for projection, part in (
                (pool.q_proj, tokens[:, :1]),
                (pool.k_proj, tokens[:, 1:]),
                (pool.v_proj, tokens[:, 1:]),
            )
        )
        query = query.expand(-1, -1, keep.shape[1], -1)
        keep = (keep | empty)[:, None]  # what a row without keys gives depends on torch's release
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=keep)
        attended = attended.masked_fill(empty[:, None], 0)
        return pool.c_proj(attended.transpose(1, 2).flatten(2))


def _text_width(model: Any) -> int:
    projection = model.text_projection
    return projection.shape[1] if isinstance(projection, Tensor) else projection.out_features


def _resized_positions(pool: Any, size: torch.Size) -> Tensor:
    """CLIP's positions of the class token and of each cell, the latter resized: (1 + h w, C)."""
    positions = pool.positional_embedding
    side = round((len(positions) - 1) ** 0.5)
    grid = positions[1:].T.unflatten(1, (side, side))[None]
    height, width = size
    grid = resize_maps(grid, (height, width))
    return torch.cat([positions[:1], grid[0].flatten(1).T])
