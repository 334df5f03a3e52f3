"""The network of Mask-Adapter: from CLIP's embedding map and a mask to maps that pool regions.

https://arxiv.org/abs/2412.04533, sec. 3.2.
"""

import torch
from timm.layers.norm import LayerNorm2d
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from frozenseg.ops.maps import resize_maps, size_of

STEPS = 4  # a mask has this many times the cells of the map along each side


class MaskAdapter(nn.Module):
    """Predicts, for each mask, several maps of where to look for its class.

    Args:
        embed_dim: D, width of CLIP's embeddings.
        mask_dim: channels of the mask's last strided convolution.
        dim: channels of the blocks.
        num_maps: maps per mask.
        num_blocks: ConvNeXt blocks.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 768,
        mask_dim: int = 16,
        dim: int = 768,
        num_maps: int = 16,
        num_blocks: int = 3,
    ) -> None:
        super().__init__()
        narrow = mask_dim // STEPS
        self.mask_encoder = nn.Sequential(
            nn.Conv2d(1, narrow, 3, stride=2, padding=1),
            LayerNorm2d(narrow),
            nn.GELU(),
            nn.Conv2d(narrow, mask_dim, 3, stride=2, padding=1),
            LayerNorm2d(mask_dim),
            nn.GELU(),
            nn.Conv2d(mask_dim, embed_dim, 1),
        )
        self.fuse = nn.Conv2d(embed_dim, dim, 1)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(dim) for _ in range(num_blocks)))
        self.norm = nn.LayerNorm(dim)
        self.predict = nn.Conv2d(dim, num_maps, 1)

    def forward(self, embedding_map: Tensor, masks: Tensor) -> Tensor:
        """Returns (Q, M, h, w) logits of M maps per mask.

        Args:
            embedding_map: (1, D, h, w) of one image.
            masks: (Q, H, W) in [0, 1] over the same frame, at any resolution.
        """
        height, width = size_of(embedding_map)
        shapes = resize_maps(masks[:, None], (STEPS * height, STEPS * width))
        cells = self.fuse(embedding_map + self.mask_encoder(shapes))
        cells = self.norm(self.blocks(cells).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.predict(cells)


def pool_with_maps(features: Tensor, map_logits: Tensor) -> Tensor:
    """Returns (Q, M, C) means of (1, C, h, w) features, weighted by (Q, M, h, w) maps.

    The weights are a softmax over the cells of the logarithm of the maps' sigmoid.
    """
    weights = nn.functional.logsigmoid(map_logits).flatten(2).softmax(dim=-1)
    return torch.einsum("qmn,cn->qmc", weights, features[0].flatten(1))
