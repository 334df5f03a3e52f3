"""Region classifier "masked crops": each mask's box, blanked outside the mask, through CLIP.

OVSeg, sec. 3.1 and 3.3: https://arxiv.org/abs/2210.04150.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from frozenseg.ops.maps import size_of
from frozenseg.ops.region_crops import expand_boxes, mask_crops, masked_crops
from frozenseg.pipeline.masks import masks_at
from frozenseg.runtime.reduced_precision import Precision, autocast_to
from frozenseg.structures import InputImage, Proposals, Regions, boxes_of
from frozenseg.towers.roles import CropEmbedder

LOGIT_SCALE = 100.0  # a constant in OVSeg; the temperature that CLIP learned is not used
PREFIX = "clip."


class Crops(NamedTuple):
    """The regions of an image as the tower sees them."""

    pixels: Tensor  # (N, 3, S, S) normalised, 0 outside the mask (CLIP's mean colour)
    masks: Tensor  # (N, S, S) bool
    boxes: Tensor  # (N, 4) in pixels of the resized image
    valid: Tensor  # (Q,) bool: masks with a pixel; N of them


class MaskedCrops(nn.Module):
    """Encodes every mask as an image of its own; mask prompts stand in for its blank patches.

    A mask without a pixel is not encoded: its embedding is 0 and it counts as not judged. An image
    without any valid mask therefore has no judged region, and the fusion decides what that means.

    Args:
        clip: the tower that encodes crops.
        threshold: a pixel is in a mask if its probability is above this.
        expansion: side of the crop over side of the mask's tight box.
        use_prompts: replace blank patches by mask prompts if the tower has them.
        precision: of the tower: "float32", "bfloat16", or "auto" (bfloat16 where it is fast).
        batch_size: crops that the tower encodes at once.
    """

    trained_parts: Mapping[str, nn.Module] = MappingProxyType({})

    def __init__(
        self,
        *,
        clip: CropEmbedder,
        threshold: float = 0.4,
        expansion: float = 1.0,
        use_prompts: bool = True,
        precision: Precision = "float32",
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        self.clip, self.threshold, self.expansion = clip, threshold, expansion
        self.use_prompts = use_prompts and clip.mask_prompts is not None
        self.precision: Precision = precision
        self.batch_size = batch_size

    def forward(self, image: InputImage, proposals: Proposals) -> Regions:
        """Returns one embedding per mask; see ``frozenseg.pipeline.RegionClassifier``."""
        crops = self.crop(image, proposals)
        embeddings = crops.pixels.new_zeros(len(crops.valid), self.clip.embed_dim)
        embeddings[crops.valid] = self.embed(crops)
        return Regions(embeddings, crops.valid, LOGIT_SCALE)

    def crop(self, image: InputImage, proposals: Proposals) -> Crops:
        """Cuts the valid masks' regions out of the resized image, all in one call."""
        masks = self.binary_masks(image, proposals)
        valid = masks.flatten(1).any(dim=1)
        masks, size = masks[valid], self.clip.image_size
        boxes = expand_boxes(boxes_of(masks), self.expansion, size_of(image.pixels))
        pixels = self.clip.normalize([image.pixels], size_of(image.pixels))[0]
        return Crops(
            masked_crops(pixels, masks, boxes, size), mask_crops(masks, boxes, size), boxes, valid
        )

    def binary_masks(self, image: InputImage, proposals: Proposals) -> Tensor:
        """Returns (Q, H, W) bool masks at the size of the resized image."""
        return masks_at(proposals, size_of(image.pixels)).sigmoid() > self.threshold

    def embed(self, crops: Crops) -> Tensor:
        """Returns the (N, D) embeddings of crops, not normalised, in float32."""
        embeddings = [crops.pixels.new_zeros(0, self.clip.embed_dim)]
        with autocast_to(self.precision, crops.pixels.device):
            for start in range(0, len(crops.pixels), self.batch_size):
                batch = slice(start, start + self.batch_size)
                masks = crops.masks[batch] if self.use_prompts else None
                embeddings.append(self.clip.embed_crops(crops.pixels[batch], masks).float())
        return torch.cat(embeddings)

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns the weights of the tower's parts that learn."""
        return {PREFIX + name: value for name, value in self.clip.trainable_state().items()}

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Loads trained weights of the tower; an empty state leaves it as it is.

        Raises:
            UserError: a part of the tower is incomplete, unknown or of another size.
        """
        if state:
            own = {name.removeprefix(PREFIX): value for name, value in state.items()}
            self.clip.load_trainable_state(own, source=source)
