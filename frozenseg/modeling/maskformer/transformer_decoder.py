"""The transformer decoder of MaskFormer: DETR's, over the coarsest map."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from frozenseg.modeling.layers import Attention, FeedForward, Mlp, tokens_of, xavier_matrices_
from frozenseg.modeling.position_encoding import sine_positions
from frozenseg.structures import Prediction

Classify = Callable[[Tensor], Tensor]  # (B, Q, D) embeddings to (B, Q, K + 1) logits


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward, each followed by a norm (DETR)."""

    def __init__(self, *, dim: int, num_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(dim=dim, num_heads=num_heads, dropout=dropout)
        self.self_norm = nn.LayerNorm(dim)
        self.cross_attention = Attention(dim=dim, num_heads=num_heads, dropout=dropout)
        self.cross_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim=dim, hidden_dim=hidden_dim, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        xavier_matrices_(self)

    def forward(
        self, queries: Tensor, query_positions: Tensor, keys: Tensor, memory: Tensor
    ) -> Tensor:
        """Returns the (B, Q, C) queries of the next block.

        Args:
            queries: (B, Q, C), without positions.
            query_positions: (B, Q, C), added to queries and keys of the attention.
            keys: (B, T, C), memory with positions.
            memory: (B, T, C).
        """
        placed = queries + query_positions
        attended = self.self_attention(placed, placed, queries)
        queries = self.self_norm(queries + self.dropout(attended))
        attended = self.cross_attention(queries + query_positions, keys, memory)
        queries = self.cross_norm(queries + self.dropout(attended))
        return self.feed_forward(queries)


class TransformerDecoder(nn.Module):
    """Turns learned query positions into masks and class embeddings (MaskFormer, sec. 3.3).

    Args:
        in_channels: channels of the coarsest map, res5.
        dim: channels inside.
        mask_dim: channels of the mask features.
        embed_dim: width of the class embeddings, that of CLIP.
        class_hidden_dim: width inside the class head.
        num_queries: number of masks.
        num_heads: attention heads.
        hidden_dim: width inside the feed-forward blocks.
        num_layers: number of blocks.
        dropout: probability, in attention, after it and in the feed-forward blocks.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        dim: int = 256,
        mask_dim: int = 256,
        embed_dim: int = 768,
        class_hidden_dim: int = 1024,
        num_queries: int = 100,
        num_heads: int = 8,
        hidden_dim: int = 2048,
        num_layers: int = 6,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.input_projection = nn.Conv2d(in_channels, dim, 1)
        self.query_positions = nn.Embedding(num_queries, dim)
        self.blocks = nn.ModuleList(
            DecoderBlock(dim=dim, num_heads=num_heads, hidden_dim=hidden_dim, dropout=dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.class_embedding = Mlp(dims=(dim, class_hidden_dim, embed_dim))
        self.mask_embedding = Mlp(dims=(dim, dim, dim, mask_dim))
        nn.init.kaiming_uniform_(self.input_projection.weight, a=1)
        assert self.input_projection.bias is not None
        nn.init.zeros_(self.input_projection.bias)

    def forward(
        self, coarsest: Tensor, mask_features: Tensor, classify: Classify, *, every_layer: bool
    ) -> list[Prediction]:
        """Returns the predictions of every layer, or of the last one alone.

        Args:
            coarsest: (B, C, h, w), res5 of the backbone.
            mask_features: (B, C, H / 4, W / 4) of the pixel decoder.
            classify: maps class embeddings to logits.
            every_layer: deep supervision needs the predictions of all layers.
        """
        projected = self.input_projection(coarsest)
        memory = tokens_of(projected)
        keys = memory + tokens_of(sine_positions(projected))
        positions = self.query_positions.weight.expand(len(coarsest), -1, -1)
        queries = torch.zeros_like(positions)
        predictions = []
        for layer, block in enumerate(self.blocks, start=1):
            queries = block(queries, positions, keys, memory)
            if every_layer or layer == len(self.blocks):
                predictions.append(self.predict(self.norm(queries), mask_features, classify))
        return predictions

    def predict(self, queries: Tensor, mask_features: Tensor, classify: Classify) -> Prediction:
        """Applies both heads to (B, Q, C) normalised queries."""
        mask_logits = torch.einsum("bqc,bchw->bqhw", self.mask_embedding(queries), mask_features)
        return Prediction(classify(self.class_embedding(queries)), mask_logits)
