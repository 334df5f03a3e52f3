"""The two injectors: SAM's *where*, given to queries (eq. 1) and to CLIP features (eq. 2)."""

from torch import Tensor, nn

from frozenseg.modeling.layers import Attention, xavier_matrices_
from frozenseg.ops.mask_pooling import mask_pool


class QueryInjector(nn.Module):
    """Adds to each query what SAM sees under its own mask (eq. 1).

    Masks are binarised at logit 0 and carry no gradient; an empty mask adds the projection of zero.
    """

    def __init__(
        self, *, project: nn.Module
    ) -> None:  # shared with the class head, so it is handed in
        super().__init__()
        self.project = project

    def forward(self, queries: Tensor, mask_logits: Tensor, sam: Tensor) -> Tensor:
        """(B, Q, C) queries, their (B, Q, H, W) masks, the (B, C, h, w) SAM embedding."""
        return queries + self.project(mask_pool(sam, mask_logits))


class FeatureInjector(nn.Module):
    """Lets every CLIP token of a level attend to all SAM tokens (eq. 2), with residual and norm.

    Both sides carry the positions of the level: SAM's map is brought to its size beforehand.
    """

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention = Attention(dim=dim, num_heads=num_heads)
        self.norm = nn.LayerNorm(dim)
        xavier_matrices_(self.attention)

    def forward(self, memory: Tensor, sam: Tensor, positions: Tensor) -> Tensor:
        """(B, T, C) CLIP tokens, SAM tokens of the same cells, their positions: new CLIP tokens."""
        return self.norm(memory + self.attention(memory + positions, sam + positions, sam))
