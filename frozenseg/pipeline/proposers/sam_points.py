"""Proposer "SAM points": SAM's zero-shot masks from a grid of point prompts (Table 4, row 1)."""

from collections.abc import Sequence

from frozenseg.ops.maps import size_of
from frozenseg.pipeline.proposers.untrained import UntrainedProposer
from frozenseg.pipeline.protocols import TextRows
from frozenseg.sam_masks.generator import MaskSource
from frozenseg.structures import Frame, InputImage, Proposals


class SamPoints(UntrainedProposer):
    """Proposes SAM's masks, without class logits; nothing is trained.

    Args:
        source: SAM's masks of a (3, H, W) uint8 image.
        size_divisibility: images are padded to a multiple of this, pixels.
    """

    tasks = frozenset({"semantic"})

    def __init__(self, *, source: MaskSource, size_divisibility: int = 32) -> None:
        super().__init__(size_divisibility=size_divisibility)
        self.source = source

    def propose(self, images: Sequence[InputImage], _text: TextRows) -> list[Proposals]:
        """Returns the masks of each original image; there may be none."""
        return [
            Proposals(
                self.source(image.original).logits().to(image.pixels.device),
                Frame(size_of(image.original), size_of(image.original)),
            )
            for image in images
        ]
