"""Building blocks of the trained parts: attention, feed-forward block, perceptron."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention with a mask that says which keys are blocked.

    One ``in_proj`` matrix holds the query, key and value projections, in this order. ``dropout`` is
    the probability of dropping an attention weight in training.
    """

    def __init__(self, *, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, blocked: Tensor | None = None
    ) -> Tensor:
        """Returns (B, Q, C) attended values.

        Args:
            query: (B, Q, C).
            key: (B, T, C).
            value: (B, T, C).
            blocked: (B, Q, T) bool, keys that a query ignores; each query must keep one.
        """
        weights, biases = self.in_proj.weight.chunk(3), self.in_proj.bias.chunk(3)
        query, key, value = (
            F.linear(tokens, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for tokens, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        keep = None if blocked is None else ~blocked[:, None]
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=keep, dropout_p=dropout
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with a residual and a norm after it (post-norm)."""

    def __init__(self, *, dim: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)  # of hidden units and of the result

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.linear1(tokens), inplace=True))
        return self.norm(tokens + self.dropout(self.linear2(hidden)))


class Mlp(nn.Sequential):
    """Linear layers with ReLU between them."""

    def __init__(self, *, dims: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(dims):
            layers += [nn.Linear(before, after), nn.ReLU()]
        super().__init__(*layers[:-1])


def xavier_matrices_(module: nn.Module) -> None:
    """Initialises every matrix with Xavier's rule, as the transformer layers of the recipe are."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def tokens_of(feature_map: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h w, C)."""
    return feature_map.flatten(2).transpose(1, 2)


def map_of(tokens: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """(B, h w, C) to (B, C, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, tuple(size))
