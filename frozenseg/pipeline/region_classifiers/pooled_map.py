"""Region classifier "pooled map": CLIP's feature map under each mask (FC-CLIP, sec. 3.3)."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from frozenseg.ops.maps import padded_size, resize_maps, size_of
from frozenseg.ops.mask_pooling import binary_masks
from frozenseg.pipeline.masks import masks_at
from frozenseg.structures import ClipMap, Frame, InputImage, Proposals, Regions
from frozenseg.towers.roles import RegionEmbedder

OUTSIDE = -10.0  # mask logit of the padding

PlaceMasks = Callable[[Proposals, ClipMap], Tensor]


class PooledMap(nn.Module):
    """Embeds regions from CLIP's feature map; the proposer's map is reused if of the same tower.

    Args:
        clip: the tower that embeds regions.
        place_masks: brings an image's masks onto the map: (Q, h, w) logits from proposals and map.
    """

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
        known = proposals.clip_map
        if known is not None and known.source is self.clip:
            return known
        size = size_of(image.pixels)
        frame = Frame(padded_size([size], max(self.clip.strides)), size)
        features = self.clip(self.clip.normalize([image.pixels], frame.size))
        return ClipMap(features.clip_map, frame, self.clip)


def aligned_masks(proposals: Proposals, clip_map: ClipMap) -> Tensor:
    """Returns masks that cover the frame of the map, so that mask and map show the same place."""
    if proposals.frame == clip_map.frame:
        return proposals.mask_logits
    image_part = masks_at(proposals, clip_map.frame.image_size)
    rows, columns = (
        whole - part
        for whole, part in zip(clip_map.frame.size, clip_map.frame.image_size, strict=True)
    )
    return F.pad(image_part, (0, columns, 0, rows), value=OUTSIDE)


def stretched_masks(proposals: Proposals, clip_map: ClipMap) -> Tensor:
    """Returns masks stretched over the whole map, padding included, by the nearest pixel.

    The published numbers of eq. 4 are made this way. (The official code then pads to 32 cells,
    which shifts regions; this is not reproduced.)
    """
    return resize_maps(proposals.mask_logits, size_of(clip_map.features), mode="nearest")
