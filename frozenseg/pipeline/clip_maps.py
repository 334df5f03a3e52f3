"""CLIP's feature map of an image, and masks brought onto it."""

import torch.nn.functional as F
from torch import Tensor

from frozenseg.ops.maps import padded_size, size_of
from frozenseg.pipeline.masks import masks_at
from frozenseg.structures import ClipMap, Frame, InputImage, Proposals
from frozenseg.towers.roles import MapTower

OUTSIDE = -10.0  # mask logit of the padding


def clip_map_of(clip: MapTower, image: InputImage, proposals: Proposals) -> ClipMap:
    """Returns the feature map of the padded image: the proposer's, if of the same tower."""
    known = proposals.clip_map
    if known is not None and known.source is clip:
        return known
    size = size_of(image.pixels)
    frame = Frame(padded_size([size], max(clip.strides)), size)
    return ClipMap(clip(clip.normalize([image.pixels], frame.size)).clip_map, frame, clip)


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
