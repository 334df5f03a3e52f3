"""The layout of a SAM branch's attention, read off the shapes of its trained weights."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from frozenseg.checkpoint.official import from_official, is_official
from frozenseg.errors import ConfigError

LAYOUT_KEY = "MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT"
FROM_WEIGHTS = "from_weights"  # of the key: as in the weights, else single_level
LEVEL_EMBEDDING = "pixel_decoder.sam_branch.encoder.level_embedding"

Layout = Literal["single_level", "three_level"]


def stored_layout(tensors: Mapping[str, Tensor]) -> Layout | None:
    """Returns the layout that trained weights have; None if they have no SAM branch.

    Args:
        tensors: of a weights file, under our names or official ones.
    """
    if is_official(tensors):
        tensors, _ = from_official(tensors)
    found = (tensors.get(f"{prefix}{LEVEL_EMBEDDING}") for prefix in ("", "proposer."))
    embedding = next((value for value in found if value is not None), None)
    if embedding is None or embedding.dim() == 0:
        return None
    return "single_level" if len(embedding) == 1 else "three_level"


def choose_layout(
    configured: str, tensors: Mapping[str, Tensor] | None = None, *, source: str = ""
) -> Layout:
    """Returns the layout to build the SAM branch with.

    Args:
        configured: value of the key: ``from_weights``, or a layout that was set explicitly.
        tensors: weights to be loaded; None trains from scratch.
        source: the file of the weights, for the message.

    Raises:
        ConfigError: the layout that was set explicitly is not that of the weights.
    """
    stored = None if tensors is None else stored_layout(tensors)
    if configured == FROM_WEIGHTS:
        return stored or "single_level"
    if stored is not None and stored != configured:
        raise ConfigError(
            f"{LAYOUT_KEY} is {configured} but the weights of {source} are {stored}: set it to "
            f"{stored} or {FROM_WEIGHTS}"
        )
    return "three_level" if configured == "three_level" else "single_level"
