"""Content-dependent transfer: class names attend to the image before they classify (MAFT+).

https://arxiv.org/abs/2408.00744, sec. 3.3.
"""

from typing import Literal

from torch import Tensor, nn

from frozenseg.modeling.layers import Attention, tokens_of
from frozenseg.modeling.position_encoding import sine_positions
from frozenseg.towers.roles import FeatureEmbedder

Form = Literal["semantic", "panoptic"]


class TextTransfer(nn.Module):
    """Changes text rows by what they attend to in an image.

    Args:
        dim: D, width of CLIP's embeddings.
        num_heads: of the attention.
        form: "semantic" is LN(row + MLP(a)) and "panoptic" row + LN(MLP(a)), where a is what the
            row attends to; named for the published weights that were trained so.
    """

    def __init__(self, *, dim: int = 768, num_heads: int = 8, form: Form = "semantic") -> None:
        super().__init__()
        self.form = form
        self.attention = Attention(dim=dim, num_heads=num_heads)
        self.mlp = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        for part in (self.attention.in_proj, self.attention.out_proj):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        if form == "panoptic":  # the rows start unchanged
            nn.init.zeros_(self.mlp.weight)
            nn.init.zeros_(self.mlp.bias)

    def forward(self, rows: Tensor, image_map: Tensor) -> Tensor:
        """Returns (S, D) rows for one image, not of unit length.

        Args:
            rows: (S, D).
            image_map: (1, D, h, w) CLIP embeddings of the image.
        """
        cells = tokens_of(image_map)
        keys = cells + tokens_of(sine_positions(image_map))
        change = self.mlp(self.attention(rows[None], keys, cells)[0])
        return self.norm(rows + change) if self.form == "semantic" else rows + self.norm(change)


class ContentTransfer(nn.Module):
    """Applies a ``TextTransfer`` to the feature map of an image.

    Args:
        clip: the tower of the map.
        network: the trained part.
        scrambled: read the map's memory as rows of channels without moving the channels last. The
            published weights were trained on such maps, in which a row mixes cells and channels.
    """

    def __init__(
        self, *, clip: FeatureEmbedder, network: TextTransfer, scrambled: bool = False
    ) -> None:
        super().__init__()
        self.clip, self.network, self.scrambled = clip, network, scrambled

    def forward(self, rows: Tensor, clip_map: Tensor) -> Tensor:
        """Returns the (S, D) rows of an image with this (1, C, h, w) map."""
        return self.network(rows, self.image_map(clip_map))

    def image_map(self, clip_map: Tensor) -> Tensor:
        """Returns the (1, D, h, w) embeddings of the map's cells, or of its scrambled rows."""
        cells = clip_map.permute(0, 2, 3, 1)
        if self.scrambled:
            cells = clip_map.reshape(cells.shape)
        return self.clip.embed_features(cells).permute(0, 3, 1, 2)
