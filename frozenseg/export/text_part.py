"""The text part of an exported model: token ids to an embedding, and the tokenizer as a table."""

from typing import Any

from torch import Tensor, nn

from frozenseg.towers.clip import ClipModel


class TextPart(nn.Module):
    """CLIP's text encoder.

    Args:
        clip: a CLIP tower.
    """

    def __init__(self, clip: ClipModel) -> None:
        super().__init__()
        self.model = clip.model

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (N, D) embeddings, not normalised, of (N, T) int64 token ids.

        T is the context length of the tokenizer; a prompt is padded with 0 after its end.
        """
        return self.model.encode_text(tokens)


def tokenizer_table(clip: ClipModel) -> dict[str, Any]:
    """Returns the tokenizer of a CLIP tower as plain values: all that byte-pair encoding needs.

    ``merges`` are pairs of pieces, the earlier one first to be joined; ``ids`` the id of each
    piece; ``bytes`` the character that stands for each byte; ``start`` and ``end`` are ids.
    """
    tokenizer: Any = clip.tokenize
    ranks = tokenizer.bpe_ranks
    return {
        "context_length": tokenizer.context_length,
        "start": tokenizer.sot_token_id,
        "end": tokenizer.eot_token_id,
        "bytes": [tokenizer.byte_encoder[byte] for byte in range(256)],
        "merges": [list(pair) for pair in sorted(ranks, key=ranks.__getitem__)],
        "ids": tokenizer.encoder,
    }
