"""Region classifier "image crops": each mask is cut out, blanked outside, and encoded."""

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from frozenseg.ops.maps import resize_maps, size_of
from frozenseg.structures import InputImage, Proposals, Regions, boxes_of
from frozenseg.towers.clip import ClipTower

CROPS_AT_ONCE = 64


class ImageCrops(nn.Module):
    """Encodes every mask as an image of its own, with any CLIP that embeds feature maps.

    Args:
        clip: the tower that encodes crops.
        crop_size: side of the square that a mask's box is resized to, pixels.
    """

    def __init__(self, *, clip: ClipTower, crop_size: int = 64) -> None:
        super().__init__()
        self.clip, self.crop_size = clip, crop_size

    def forward(self, image: InputImage, proposals: Proposals) -> Regions:
        masks = self._binary_masks(image, proposals)
        judged = masks.flatten(1).any(dim=-1)
        embeddings = proposals.mask_logits.new_zeros(len(masks), self.clip.embed_dim)
        for rows in judged.nonzero()[:, 0].split(CROPS_AT_ONCE):
            embeddings[rows] = self._encode(self._crops(image.pixels, masks[rows]))
        return Regions(embeddings, judged, self.clip.logit_scale)

    def _binary_masks(self, image: InputImage, proposals: Proposals) -> Tensor:
        height, width = proposals.frame.image_size
        full = resize_maps(proposals.mask_logits, proposals.frame.size)[:, :height, :width]
        return resize_maps(full, size_of(image.pixels)) > 0

    def _crops(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """Returns (N, 3, S, S) crops of (N, H, W) masks; pixels outside a mask have CLIP's mean."""
        mean = self.clip.pixel_mean
        image = pixels.to(mean.device, torch.float32) - mean
        layers = torch.where(masks[:, None], image, 0.0)
        rows = torch.arange(len(masks), device=masks.device, dtype=torch.float32)
        boxes = torch.cat([rows[:, None], boxes_of(masks).float()], dim=1)
        return roi_align(layers, boxes, self.crop_size, aligned=False, sampling_ratio=2) + mean

    def _encode(self, crops: Tensor) -> Tensor:
        batch = self.clip.normalize(list(crops), size_of(crops))
        clip_map = self.clip(batch).clip_map
        whole = clip_map.new_ones(len(crops), 1, *size_of(clip_map))
        return self.clip.embed_regions(clip_map, whole)[:, 0]
