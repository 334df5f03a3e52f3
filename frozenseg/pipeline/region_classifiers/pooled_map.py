"""Region classifier "pooled map": CLIP's feature map under each mask (FC-CLIP, sec. 3.3)."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

from frozenseg.ops.maps import resize_maps, size_of
from frozenseg.ops.mask_pooling import binary_masks
from frozenseg.pipeline.clip_maps import aligned_masks, clip_map_of
from frozenseg.structures import ClipMap, InputImage, Proposals, Regions
from frozenseg.towers.roles import RegionEmbedder

PlaceMasks = Callable[[Proposals, ClipMap], Tensor]


class PooledMap(nn.Module):
    """Embeds regions from CLIP's feature map; the proposer's map is reused if of the same tower.

    Args:
        clip: the tower that embeds regions.
        place_masks: brings an image's masks onto the map: (Q, h, w) logits from proposals and map.
    """

    trained_parts: Mapping[str, nn.Module] = MappingProxyType({})

    def __init__(self, *, clip: RegionEmbedder, place_masks: "PlaceMasks | None" = None) -> None:
        super().__init__()
        self.clip = clip
        self.place_masks = aligned_masks if place_masks is None else place_masks

    def forward(self, image: InputImage, proposals: Proposals) -> Regions:
        clip_map = self.map_of(image, proposals)
        return self.embed(clip_map, self.place_masks(proposals, clip_map))

    def embed(self, clip_map: ClipMap, mask_logits: Tensor) -> Regions:
        """Embeds (Q, h, w) masks that cover the map's frame, at any resolution."""
        masks = mask_logits[None]
        embeddings = self.clip.embed_regions(clip_map.features, masks)[0]
        judged = binary_masks(masks, size_of(clip_map.features))[0].flatten(1).any(dim=-1)
        return Regions(embeddings, judged, self.clip.logit_scale)

    def map_of(self, image: InputImage, proposals: Proposals) -> ClipMap:
        """Returns the feature map of the padded image."""
        return clip_map_of(self.clip, image, proposals)


def stretched_masks(proposals: Proposals, clip_map: ClipMap) -> Tensor:
    """Returns masks stretched over the whole map, padding included, by the nearest pixel.

    The published numbers of eq. 4 are made this way. (The official code then pads to 32 cells,
    which shifts regions; this is not reproduced.)
    """
    return resize_maps(proposals.mask_logits, size_of(clip_map.features), mode="nearest")
