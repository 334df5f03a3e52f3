"""The SAM tower: *where* things are."""

import torch
from torch import Tensor, nn

from frozenseg.ops.maps import resize_maps
from frozenseg.towers.blocked_attention import block_attention
from frozenseg.towers.frozen import FrozenTower

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class SamTower(FrozenTower):
    """SAM's image encoder, with the rest of SAM for mask proposals.

    Args:
        model: a ``segment_anything.modeling.Sam``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD)
        block_attention(self.model.image_encoder)
        self.image_size: int = self.model.image_encoder.img_size
        self.out_channels: int = self.model.prompt_encoder.embed_dim

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Returns the (B, C, h, w) embedding of a normalised, padded batch.

        The batch is stretched to SAM's square, as in the published model: the aspect ratio is not
        kept, so that SAM's map and CLIP's maps cover the same area.
        """
        return self.model.image_encoder(resize_maps(images, (self.image_size, self.image_size)))
