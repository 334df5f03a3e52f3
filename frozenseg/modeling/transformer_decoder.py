"""The decoder: nine layers of masked attention, both injectors, a prediction after each."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from frozenseg.modeling.injectors import FeatureInjector, QueryInjector
from frozenseg.modeling.layers import Attention, FeedForward, Mlp, tokens_of, xavier_matrices_
from frozenseg.modeling.pixel_decoder import PixelFeatures
from frozenseg.modeling.position_encoding import sine_positions
from frozenseg.ops.maps import resize_maps, size_of
from frozenseg.ops.mask_pooling import mask_pool
from frozenseg.ops.precision import cast_once
from frozenseg.structures import Prediction

Classify = Callable[[Tensor], Tensor]  # (B, Q, D) embeddings to (B, Q, K + 1) logits


class DecoderBlock(nn.Module):
    """Masked cross-attention, self-attention, feed-forward, each followed by a norm."""

    def __init__(self, *, dim: int, num_heads: int, hidden_dim: int) -> None:
        super().__init__()
        self.cross_attention = Attention(dim=dim, num_heads=num_heads)
        self.cross_norm = nn.LayerNorm(dim)
        self.self_attention = Attention(dim=dim, num_heads=num_heads)
        self.self_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim=dim, hidden_dim=hidden_dim)
        xavier_matrices_(self)

    def forward(
        self,
        queries: Tensor,
        query_positions: Tensor,
        keys: Tensor,
        memory: Tensor,
        *,
        blocked: Tensor,
    ) -> Tensor:
        """Returns the refined (B, Q, C) queries.

        Args:
            queries: (B, Q, C).
            query_positions: (B, Q, C), added to the queries of both attentions.
            keys: (B, T, C), memory with its positions.
            memory: (B, T, C).
            blocked: (B, Q, T) bool, memory outside each query's mask.
        """
        placed = queries + query_positions
        queries = self.cross_norm(
            queries + self.cross_attention(placed, keys, memory, blocked=blocked)
        )
        placed = queries + query_positions
        queries = self.self_norm(queries + self.self_attention(placed, placed, queries))
        return self.feed_forward(queries)


class TransformerDecoder(nn.Module):
    """Turns learned queries into masks and class embeddings (sec. 3.2; Mask2Former, sec. 3.2).

    Args:
        dim: width of queries and memory.
        mask_dim: channels of the mask features.
        embed_dim: width of the text space.
        num_queries: learned queries.
        num_heads: of every attention.
        hidden_dim: of the feed-forward blocks.
        num_layers: decoder layers, counted from 1.
        num_levels: maps of memory, used in turn.
        sam_dim: channels of SAM's embedding; None without SAM.
        query_layers: layers after which the Query Injector refines the queries (eq. 1).
        feature_layers: layers before which the Feature Injector refines the memory (eq. 2).
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        mask_dim: int = 256,
        embed_dim: int = 768,
        num_queries: int = 250,
        num_heads: int = 8,
        hidden_dim: int = 2048,
        num_layers: int = 9,
        num_levels: int = 3,
        sam_dim: int | None = 256,
        query_layers: Collection[int] = (3, 6, 9),
        feature_layers: Collection[int] = (1, 4, 7),
    ) -> None:
        super().__init__()
        self.query_features = nn.Embedding(num_queries, dim)
        self.query_positions = nn.Embedding(num_queries, dim)
        self.level_embedding = nn.Embedding(num_levels, dim)
        self.blocks = nn.ModuleList(
            DecoderBlock(dim=dim, num_heads=num_heads, hidden_dim=hidden_dim)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.mask_embedding = Mlp(dims=(dim, dim, dim, mask_dim))
        self.class_embedding = Mlp(dims=(dim, dim, dim, embed_dim))
        self.pool_projection = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))
        self.adapt_pooled = nn.Identity() if mask_dim == dim else nn.Linear(mask_dim, dim)
        self.query_layers, self.feature_layers = frozenset(query_layers), frozenset(feature_layers)
        # the embedding's own width is projected to the decoder's where they differ
        self.adapt_sam = nn.Identity() if sam_dim in (None, dim) else nn.Conv2d(sam_dim, dim, 1)
        self.query_injector = QueryInjector(project=self.pool_projection)
        self.feature_injectors = nn.ModuleDict(
            {
                str(layer): FeatureInjector(dim=dim, num_heads=num_heads)
                for layer in sorted(feature_layers)
            }
        )

    def forward(
        self, pixels: PixelFeatures, sam: Tensor | None, classify: Classify, *, every_layer: bool
    ) -> list[Prediction]:
        """Returns the predictions of the learned queries and of each layer, or of the last layer.

        Args:
            pixels: mask features and memory of the pixel decoder.
            sam: (B, C, h, w) SAM embedding for the Query Injector; None without SAM.
            classify: (B, Q, D) embeddings to (B, Q, K + 1) logits.
            every_layer: return all predictions, first to last (deep supervision).
        """
        batch = pixels.mask_features.shape[0]
        queries = self.query_features.weight.expand(batch, -1, -1)
        query_positions = self.query_positions.weight.expand(batch, -1, -1)
        memories = [
            tokens_of(level) + embedding
            for level, embedding in zip(pixels.levels, self.level_embedding.weight, strict=True)
        ]
        positions = [tokens_of(sine_positions(level)) for level in pixels.levels]
        sizes = [size_of(level) for level in pixels.levels]
        sam = None if sam is None else self.adapt_sam(sam)
        grids = sizes if sam is None else [*sizes, size_of(sam)]  # on which masks are read

        mask_features = cast_once(pixels.mask_features)
        mask_logits = self.predict_masks(queries, mask_features()) if every_layer else None
        predictions = []
        if mask_logits is not None:
            predictions.append(self.predict(queries, mask_logits, mask_features(), classify))
        coarse = [] if every_layer else [resize_maps(mask_features(), grid) for grid in grids]

        def masks_on(index: int) -> Tensor:
            """Masks of the last prediction: resized, or predicted from resized mask features.

            Resizing and the product over channels commute, and few cells are cheaper to predict.
            """
            if mask_logits is not None:
                return resize_maps(mask_logits, grids[index])
            return self.predict_masks(predicted, coarse[index])

        predicted = queries  # queries that masks are predicted from: without injection
        for layer, block in enumerate(self.blocks, start=1):  # counted from 1, as in the paper
            index = (layer - 1) % len(memories)
            memory, size = memories[index], sizes[index]
            keys = memory + positions[index]
            if layer in self.feature_layers:  # eq. 2; these tokens carry no position afterwards
                assert pixels.sam is not None, "a model with Feature Injectors has a SAM branch"
                inject = self.feature_injectors[str(layer)]
                sam_tokens = (
                    tokens_of(resize_maps(pixels.sam, size)) + self.level_embedding.weight[index]
                )
                keys = memory = inject(memory, sam_tokens, positions[index])
            blocked = blocked_cells(masks_on(index))
            queries = predicted = block(queries, query_positions, keys, memory, blocked=blocked)
            is_last = layer == len(self.blocks)
            if every_layer or is_last:
                mask_logits = self.predict_masks(queries, mask_features())
                predictions.append(self.predict(queries, mask_logits, mask_features(), classify))
            if layer in self.query_layers and not is_last:  # eq. 1; the last one would be unused
                assert sam is not None, "a model with Query Injectors has SAM's embedding"
                queries = self.query_injector(queries, masks_on(-1), sam)
        return predictions

    def predict_masks(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        """(B, Q, C) queries to (B, Q, H / 4, W / 4) mask logits."""
        return torch.einsum(
            "bqc,bchw->bqhw", self.mask_embedding(self.norm(queries)), mask_features
        )

    def predict(
        self, queries: Tensor, mask_logits: Tensor, mask_features: Tensor, classify: Classify
    ) -> Prediction:
        """Classifies each query from its own features and those under its mask.

        Args:
            queries: (B, Q, C).
            mask_logits: (B, Q, h, w) at stride 4.
            mask_features: (B, C, h, w).
            classify: (B, Q, D) embeddings to (B, Q, K + 1) logits.
        """
        pooled = self.adapt_pooled(mask_pool(mask_features, mask_logits))
        embeddings = self.class_embedding(self.norm(queries) + self.pool_projection(pooled))
        return Prediction(classify(embeddings), mask_logits)


@torch.no_grad()
def blocked_cells(mask_logits: Tensor) -> Tensor:
    """Returns the cells outside each mask; a mask that would block all of them blocks none.

    Args:
        mask_logits: (B, Q, h, w) at the size of the memory.

    Returns:
        (B, Q, h w) bool.
    """
    blocked = (mask_logits < 0).flatten(2)  # sigmoid below one half
    return blocked & ~blocked.all(dim=-1, keepdim=True)
