"""Crops through a CLIP that embeds feature maps: the interface of ``CropClip`` without prompts."""

from collections.abc import Mapping

from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.ops.maps import Size, size_of
from frozenseg.towers.clip import ClipTower


class MapCrops(nn.Module):
    """Embeds a crop as the region that covers its whole map.

    Args:
        clip: a ConvNeXt or ResNet CLIP.
    """

    mask_prompts = None

    def __init__(self, clip: ClipTower) -> None:
        super().__init__()
        self.tower = clip
        side = clip.model.visual.image_size
        self.image_size: Size = (side, side) if isinstance(side, int) else tuple(side)
        self.embed_dim = clip.embed_dim

    def normalize(self, images: list[Tensor], size: Size) -> Tensor:
        """Returns (3, H, W) images in 0..255 as one normalised batch, zero-padded to ``size``."""
        return self.tower.normalize(images, size)

    def embed_crops(self, crops: Tensor, _region_masks: Tensor | None = None) -> Tensor:
        """Returns (N, D) image embeddings, not normalised, of (N, 3, S, S) normalised crops."""
        clip_map = self.tower(crops).clip_map
        whole = clip_map.new_ones(len(crops), 1, *size_of(clip_map))
        return self.tower.embed_regions(clip_map, whole)[:, 0]

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns nothing: the tower is frozen."""
        return {}

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Refuses any weights."""
        if state:
            raise UserError(f"{source} holds trained weights, but this CLIP takes none")
