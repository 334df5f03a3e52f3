"""The roles that a CLIP model can play; one tower may fill all of them."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from frozenseg.ops.maps import Size


class ClipFeatures(NamedTuple):
    """Feature maps of a padded batch."""

    levels: tuple[Tensor, ...]  # (B, C, h, w), fine to coarse, one per stride of the backbone
    clip_map: Tensor  # (B, C, h, w) at the coarsest stride, from which regions are embedded

    def float(self) -> "ClipFeatures":
        """Returns the maps in float32."""
        return ClipFeatures(tuple(level.float() for level in self.levels), self.clip_map.float())


class Backbone(Protocol):
    """Computes the feature maps that the decoder reads. Members are ``nn.Module``."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each level, fine to coarse."""
        ...

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each level, pixels."""
        ...

    def normalize(self, images: list[Tensor], size: Size) -> Tensor:
        """Returns (3, H, W) images in 0..255 as one normalised batch, padded to ``size``."""
        ...

    def __call__(self, images: Tensor) -> ClipFeatures:
        """Returns the features of a (B, 3, H, W) normalised batch."""
        ...


class TextEncoder(Protocol):
    """Embeds prompts in CLIP's text space."""

    @property
    def embed_dim(self) -> int:
        """Width of the text space."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies the weights in caches."""
        ...

    def encode_text(self, prompts: list[str]) -> Tensor:
        """Returns (N, D) embeddings of any length."""
        ...

    def count_tokens(self, prompt: str) -> tuple[int, int]:
        """Returns a prompt's number of tokens, and how many of them are read."""
        ...


class CropEmbedder(Protocol):
    """Embeds crops as whole images; a ViT can have mask prompts. Members are ``nn.Module``."""

    @property
    def embed_dim(self) -> int:
        """Width of the text space."""
        ...

    @property
    def image_size(self) -> Size:
        """(height, width) of the crops, pixels."""
        ...

    @property
    def mask_prompts(self) -> Tensor | None:
        """(depth, P, C); None if the tower has none."""
        ...

    def normalize(self, images: list[Tensor], size: Size) -> Tensor:
        """Returns (3, H, W) images in 0..255 as one normalised batch, padded to ``size``."""
        ...

    def embed_crops(self, crops: Tensor, region_masks: Tensor | None = None, /) -> Tensor:
        """Returns (N, D) embeddings, of any length, of (N, 3, S, S) normalised crops.

        Prompts replace the patches without a pixel of the (N, S, S) bool masks, if they are given.
        """
        ...

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns the weights of the parts that learn."""
        ...

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Loads what ``trainable_state`` returned."""
        ...


class MapTower(Protocol):
    """Computes the feature map that regions are embedded from. Members are ``nn.Module``."""

    @property
    def logit_scale(self) -> Tensor:
        """CLIP's factor on cosines."""
        ...

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each level, pixels."""
        ...

    def normalize(self, images: list[Tensor], size: Size) -> Tensor:
        """Returns (3, H, W) images in 0..255 as one normalised batch, padded to ``size``."""
        ...

    def __call__(self, images: Tensor) -> ClipFeatures:
        """Returns the features of a (B, 3, H, W) normalised batch."""
        ...


class RegionEmbedder(MapTower, Protocol):
    """Embeds what CLIP sees under masks, from its own feature map."""

    def embed_regions(self, clip_map: Tensor, mask_logits: Tensor) -> Tensor:
        """Returns (B, Q, D) embeddings, of any length, of (B, Q, H, W) masks over the map."""
        ...


class FeatureEmbedder(MapTower, Protocol):
    """Embeds single vectors of its feature map."""

    def embed_features(self, features: Tensor) -> Tensor:
        """Returns (..., D) embeddings, of any length, of (..., C) cells or means of cells.

        Gradient flows to the features.
        """
        ...
