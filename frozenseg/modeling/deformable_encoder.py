"""Deformable self-attention over the cells of feature maps (Deformable DETR, sec. 4.1)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozenseg.modeling.layers import FeedForward, tokens_of, xavier_matrices_
from frozenseg.modeling.position_encoding import sine_positions
from frozenseg.ops.maps import Size, size_of
from frozenseg.ops.ms_deform_attn import ms_deform_attn, reread_single_level
from frozenseg.ops.ms_deform_attn.reference import attend_to_levels

TOKENS_PER_THREAD = 1024  # refined together: their hidden units take 4 MB


class MapSizes(NamedTuple):
    """The maps whose cells follow each other as tokens."""

    sizes: list[Size]  # (height, width) of each map
    table: Tensor  # (L, 2) int64, the same on the device


class DeformableAttention(nn.Module):
    """Each token looks at a few points of every map, at learned offsets from its own place.

    ``num_levels`` counts the maps that the parameters are laid out for. Given fewer maps than that
    (one map, three levels of parameters: the published SAM branch), query-head ``s`` reads the
    offsets and weights that query-head ``s // num_levels`` has for level ``s % num_levels``, as the
    official kernel does; each image is read on its own.

    ``portable`` gathers with PyTorch's own operators instead of this project's, which an exported
    graph cannot hold; the numbers are the same, the speed is not.
    """

    portable = False

    def __init__(self, *, dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Heads start looking in different directions, points at growing distances."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1)[None, None, :, None]
        offsets = directions[:, None, None, :] * distances
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, query: Tensor, reference_points: Tensor, values: Tensor, maps: MapSizes
    ) -> Tensor:
        """Returns (B, Q, C) attended values.

        Args:
            query: (B, Q, C).
            reference_points: (Q, 2), (x, y) in [0, 1].
            values: (B, T, M, D) projected tokens of all maps.
            maps: their sizes.
        """
        locations, weights = self.points(query, reference_points, maps.table)
        if len(maps.sizes) < self.num_levels:
            locations, weights = reread_single_level(locations, weights)
        return self.gather(values, maps, locations, weights)

    def project(self, tokens: Tensor) -> Tensor:
        """(B, T, C) tokens to the (B, T, M, D) values that queries read."""
        return self.value_proj(tokens).unflatten(-1, (self.num_heads, -1))

    def points(
        self, query: Tensor, reference_points: Tensor, sizes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns sampling points (B, Q, M, L, P, 2) as (x, y), and their attention weights."""
        offsets = self.sampling_offsets(query)
        offsets = offsets.unflatten(-1, (self.num_heads, self.num_levels, self.num_points, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(dim=-1)
        # offsets are in cells of the map looked at; sizes are (height, width), places (x, y)
        scale = sizes.flip(-1)[:, None, :]
        locations = reference_points[None, :, None, None, None, :] + offsets / scale
        return locations, weights.unflatten(-1, (self.num_levels, self.num_points))

    def gather(self, values: Tensor, maps: MapSizes, locations: Tensor, weights: Tensor) -> Tensor:
        """Returns (B, Q, C) weighted samples of the tokens.

        Args:
            values: (B, T, M, D) projected tokens of all maps.
            maps: their sizes.
            locations: (B, Q, M, L, P, 2), (x, y) in [0, 1].
            weights: (B, Q, M, L, P).
        """
        if self.portable:
            return self.output_proj(attend_to_levels(values, maps.sizes, locations, weights))
        level_start = F.pad(maps.table.prod(dim=-1).cumsum(0)[:-1], (1, 0))
        return self.output_proj(ms_deform_attn(values, maps.table, level_start, locations, weights))


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward block, post-norm."""

    def __init__(
        self, *, dim: int, num_heads: int, num_levels: int, num_points: int, hidden_dim: int
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(
            dim=dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim=dim, hidden_dim=hidden_dim)
        xavier_matrices_(self.feed_forward)

    def forward(
        self, tokens: Tensor, positions: Tensor, reference_points: Tensor, maps: MapSizes
    ) -> Tensor:
        """Returns the refined (B, T, C) tokens.

        Args:
            tokens: (B, T, C) of all maps.
            positions: (B, T, C), added to the queries.
            reference_points: (T, 2), the centre of each cell as (x, y) in [0, 1].
            maps: their sizes.
        """
        values = self.attention.project(tokens)
        size = self._tokens_at_once(tokens, maps)
        if size is None:
            return self._refine(tokens, positions, reference_points, values, maps)
        runs = zip(
            tokens.split(size, dim=1),
            positions.split(size, dim=1),
            reference_points.split(size),
            strict=True,
        )
        return torch.cat([self._refine(*run, values, maps) for run in runs], dim=1)

    def _refine(
        self,
        tokens: Tensor,
        positions: Tensor,
        reference_points: Tensor,
        values: Tensor,
        maps: MapSizes,
    ) -> Tensor:
        attended = self.attention(tokens + positions, reference_points, values, maps)
        return self.feed_forward(self.norm(tokens + attended))

    def _tokens_at_once(self, tokens: Tensor, maps: MapSizes) -> int | None:
        """Returns how many tokens are refined together; None: all of them.

        On a CPU, as many as fit into its cache. Queries of a single map are read again by others,
        and a graph of any size has no number of runs (ONNX cannot split by a symbol).
        """
        alone = len(maps.sizes) < self.attention.num_levels
        if torch.is_grad_enabled() or alone or tokens.is_cuda or torch.compiler.is_compiling():
            return None
        return TOKENS_PER_THREAD * torch.get_num_threads()


class DeformableEncoder(nn.Module):
    """Lets the cells of several maps look at each other; maps keep their sizes."""

    def __init__(
        self,
        *,
        dim: int,
        num_layers: int = 6,
        num_heads: int = 8,
        num_levels: int = 3,
        num_points: int = 4,
        hidden_dim: int = 1024,
    ) -> None:
        super().__init__()
        self.level_embedding = nn.Parameter(torch.randn(num_levels, dim))
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                dim=dim,
                num_heads=num_heads,
                num_levels=num_levels,
                num_points=num_points,
                hidden_dim=hidden_dim,
            )
            for _ in range(num_layers)
        )

    @property
    def num_levels(self) -> int:
        """Number of maps that the parameters are laid out for."""
        return len(self.level_embedding)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """(B, C, h, w) maps, coarse to fine, to maps of the same shapes."""
        sizes = [size_of(level) for level in maps]
        tokens = torch.cat([tokens_of(level) for level in maps], dim=1)
        positions = torch.cat(
            [
                tokens_of(sine_positions(level)) + embedding
                for level, embedding in zip(maps, self.level_embedding, strict=False)
            ],
            dim=1,
        )
        places = torch.cat([_cell_centres(size, tokens) for size in sizes])
        sized = MapSizes(sizes, torch.tensor(sizes, device=tokens.device))
        for layer in self.layers:
            tokens = layer(tokens, positions, places, sized)
        parts = tokens.split([height * width for height, width in sizes], dim=1)
        return [
            part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)
        ]


def _cell_centres(size: tuple[int, int], like: Tensor) -> Tensor:
    height, width = size
    rows = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
    columns = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)
