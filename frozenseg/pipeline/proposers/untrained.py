"""The common part of proposers without trained weights."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.ops.maps import Size, padded_size


class UntrainedProposer(nn.Module):
    """Pads images and has no weights; members add ``tasks`` and ``propose``.

    Args:
        size_divisibility: images are padded to a multiple of this, pixels.
    """

    void = None

    def __init__(self, *, size_divisibility: int = 32) -> None:
        super().__init__()
        self.size_divisibility = size_divisibility

    def padded_size(self, sizes: Sequence[Size]) -> Size:
        """Returns the size that images of these sizes are padded to in one batch."""
        return padded_size(sizes, self.size_divisibility)

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns nothing: there are no trained weights."""
        return {}

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Refuses any weights."""
        if state:
            raise UserError(f"{source} holds trained weights, but this proposer takes none")
