"""Proposer "SAM points": SAM's zero-shot masks from a grid of point prompts (Table 4, row 1)."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.ops.maps import Size, padded_size, size_of
from frozenseg.pipeline.protocols import TextRows
from frozenseg.sam_masks.generator import MaskSource
from frozenseg.structures import Frame, InputImage, Proposals


class SamPoints(nn.Module):
    """Proposes SAM's masks, without class logits; nothing is trained.

    Args:
        source: SAM's masks of a (3, H, W) uint8 image.
        size_divisibility: images are padded to a multiple of this, pixels.
    """

    tasks = frozenset({"semantic"})
    void = None

    def __init__(self, *, source: MaskSource, size_divisibility: int = 32) -> None:
        super().__init__()
        self.source, self.size_divisibility = source, size_divisibility

    def propose(self, images: Sequence[InputImage], _text: TextRows) -> list[Proposals]:
        """Returns the masks of each original image; there may be none."""
        return [
            Proposals(
                self.source(image.original).logits().to(image.pixels.device),
                Frame(size_of(image.original), size_of(image.original)),
            )
            for image in images
        ]

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns nothing: there are no trained weights."""
        return {}

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Refuses any weights."""
        if state:
            raise UserError(f"{source} holds trained weights, but this proposer takes none")

    def padded_size(self, sizes: Sequence[Size]) -> Size:
        """Returns the size that images of these sizes are padded to in one batch."""
        return padded_size(sizes, self.size_divisibility)
