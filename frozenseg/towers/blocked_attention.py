"""SAM's attention, computed in blocks of queries: no array of tokens x tokens is ever held.

segment_anything adds its relative positions to the scores of all heads at once, which takes 2.4 GB
at 1,024 pixels. A block of scores stays in the processor's cache from the product with the keys to
the product with the values. Each score is computed as before.
"""

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, Block, get_rel_pos
from torch import Tensor, nn

from frozenseg.ops.maps import Size

SCORES_PER_THREAD = 2**20  # 4 MB: about the cache of a core
SCORES_PER_LAUNCH = 2**26  # few launches on a GPU and few steps of a compiled graph, 256 MB


def block_attention(encoder: nn.Module) -> None:
    """Replaces the attention of an image encoder of segment_anything, in place.

    The weights, their names and the results stay; other encoders are left alone.
    """
    if not isinstance(encoder, ImageEncoderViT):
        return
    for block in encoder.blocks:
        assert isinstance(block, Block), "segment_anything builds its encoder of these"
        if isinstance(block.attn, Attention) and block.attn.use_rel_pos:
            blocked = BlockedAttention(block.attn, window=block.window_size)
            block.add_module("attn", blocked)
            block.window_size = 0  # the attention makes the windows


class BlockedAttention(nn.Module):
    """Attention among the cells of a map, or of its windows, with relative positions.

    Queries, keys and values are projected before the map is padded to whole windows, so that no
    padding is multiplied with weights.

    Args:
        attention: whose weights are used.
        window: side of the windows, in cells; 0: the whole map is one.
    """

    def __init__(self, attention: Attention, *, window: int) -> None:
        super().__init__()
        self.num_heads, self.scale, self.window = attention.num_heads, attention.scale, window
        self.qkv, self.proj = attention.qkv, attention.proj
        self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        height, width = features.shape[1:3]
        size = (self.window, self.window) if self.window else (height, width)
        tokens = self._padded(self.qkv(features), features, size)
        rows, columns = tokens.shape[1] // size[0], tokens.shape[2] // size[1]
        windows = tokens.unflatten(2, (columns, size[1])).unflatten(1, (rows, size[0]))
        windows = windows.unflatten(-1, (3, self.num_heads, -1)).permute(5, 0, 1, 3, 6, 2, 4, 7)
        query, key, value = windows.flatten(5, 6).flatten(1, 4).unbind(0)  # (B R C M, T, D)
        attended = self._attend(query, key, value, size)
        attended = attended.unflatten(0, (-1, rows, columns, self.num_heads))
        attended = attended.unflatten(4, size).permute(0, 1, 4, 2, 5, 3, 6)
        attended = attended.flatten(5).flatten(3, 4).flatten(1, 2)
        return self.proj(attended[:, :height, :width])

    def _padded(self, tokens: Tensor, features: Tensor, size: Size) -> Tensor:
        """Returns the projected (B, H, W, 3 C) tokens, padded as if zeros had been projected."""
        batch, height, width, channels = tokens.shape
        down, right = -height % size[0], -width % size[1]
        if not (down or right):
            return tokens
        blank = self.qkv(features.new_zeros(features.shape[-1]))
        padded = blank.expand(batch, height + down, width + right, channels).clone()
        padded[:, :height, :width] = tokens
        return padded

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, size: Size) -> Tensor:
        """Returns (N, T, D) attended values of N windows and heads of T = h w cells."""
        (height, width), cells = size, query.shape[1]
        query_map = query.unflatten(1, size)
        down = torch.einsum(
            "nhwc,hkc->nhwk", query_map, get_rel_pos(height, height, self.rel_pos_h)
        )
        across = torch.einsum(
            "nhwc,wkc->nhwk", query_map, get_rel_pos(width, width, self.rel_pos_w)
        )
        scaled, keys = query_map * self.scale, key.transpose(1, 2)
        budget = _scores_at_once(query.device)
        heads_at_once = max(1, budget // cells**2)
        rows_at_once = min(height, max(1, budget // (width * cells)))
        attended = torch.empty_like(scaled)
        for start in range(0, len(query), heads_at_once):
            heads = slice(start, start + heads_at_once)
            for top in range(0, height, rows_at_once):
                part = heads, slice(top, top + rows_at_once)
                scores = (scaled[part].flatten(1, 2) @ keys[heads]).unflatten(1, (-1, width))
                scores = scores.unflatten(-1, size)
                scores += down[part][..., None]
                scores += across[part][..., None, :]
                weights = scores.flatten(3).softmax(dim=-1).flatten(1, 2)
                attended[part] = (weights @ value[heads]).unflatten(1, (-1, width))
        return attended.flatten(1, 2)


def _scores_at_once(device: torch.device) -> int:
    if torch.compiler.is_exporting():
        return 2**62  # a graph would hold every block
    if device.type == "cpu" and not torch.compiler.is_compiling():
        return SCORES_PER_THREAD * torch.get_num_threads()
    return SCORES_PER_LAUNCH
