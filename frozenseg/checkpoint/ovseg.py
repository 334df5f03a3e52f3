"""Names in OVSeg's checkpoints and here. The CLIP part keeps OpenAI's names on both sides.

A whole checkpoint holds the proposer, CLIP with its mask prompts, and constants. Files with CLIP
alone (``epoch_N.pt`` of fine-tuning and mask prompt tuning, or OpenAI's format) are read by
``frozenseg.towers.vit_loading``.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from frozenseg.towers.clip import PIXEL_MEAN, PIXEL_STD
from frozenseg.towers.clip_vit import PROMPTS
from frozenseg.towers.vit_loading import IN_OVSEG

CLIP = "region_classifier.clip."
PROPOSER = "proposer."
LOSS_WEIGHTS = "criterion.empty_weight"  # follows from the configuration, so ours does not keep it
PIXELS = {"clip_adapter.pixel_mean": PIXEL_MEAN, "clip_adapter.pixel_std": PIXEL_STD}
# (1, D) on both sides
NO_OBJECT = ("clip_adapter.non_object_embedding", f"{PROPOSER}void_embedding")

Translate = Callable[[str], str | None]  # a name of the proposer's to the other side, if known


def is_ovseg(names: Iterable[str]) -> bool:
    """Returns True if these are the names of a whole OVSeg checkpoint."""
    return any(name.startswith("clip_adapter.") for name in names)


def from_official(
    state: Mapping[str, Tensor], *, proposer: Translate
) -> tuple[dict[str, Tensor], list[str]]:
    """Returns an official state under our names, and the official names without a counterpart.

    Args:
        state: of a whole checkpoint.
        proposer: translates the names of the proposer; ours come without the prefix ``proposer.``.
    """
    names = {name: _to_ours(name, proposer) for name in state if name != LOSS_WEIGHTS}
    names = {name: ours for name, ours in names.items() if not _is_ours(name, state[name])}
    known = {ours: state[name] for name, ours in names.items() if ours is not None}
    return known, [name for name, ours in names.items() if ours is None]


def to_official(
    state: Mapping[str, Tensor],
    *,
    proposer: Translate,
    num_classes: int,
    no_object_weight: float = 0.1,
) -> tuple[dict[str, Tensor], list[str]]:
    """Returns our state under official names, and our names without a counterpart.

    Args:
        state: of proposer and region classifier, under our names.
        proposer: translates our names of the proposer, without the prefix ``proposer.``.
        num_classes: of the training vocabulary.
        no_object_weight: of the training; the official loss keeps a tensor of class weights.
    """
    names = {name: _to_theirs(name, proposer) for name in state}
    known = {official: state[name] for name, official in names.items() if official is not None}
    known |= {name: torch.tensor(values).view(1, 3, 1, 1) for name, values in PIXELS.items()}
    known[LOSS_WEIGHTS] = torch.tensor([1.0] * num_classes + [no_object_weight])
    return known, [name for name, official in names.items() if official is None]


def _is_ours(name: str, value: Tensor) -> bool:
    """Returns True for a stored normalisation that equals the one built into our tower."""
    if name not in PIXELS:
        return False
    expected = value.new_tensor(PIXELS[name])
    return value.shape == (1, 3, 1, 1) and torch.allclose(value.flatten(), expected, atol=1e-3)


def _to_ours(name: str, proposer: Translate) -> str | None:
    if name == NO_OBJECT[0]:
        return NO_OBJECT[1]
    if name == IN_OVSEG + PROMPTS:
        return f"{CLIP}mask_prompts"
    if name.startswith(IN_OVSEG):
        return f"{CLIP}model.{name.removeprefix(IN_OVSEG)}"
    translated = proposer(name)
    return None if translated is None else PROPOSER + translated


def _to_theirs(name: str, proposer: Translate) -> str | None:
    if name == NO_OBJECT[1]:
        return NO_OBJECT[0]
    if name == f"{CLIP}mask_prompts":
        return IN_OVSEG + PROMPTS
    if name.startswith(f"{CLIP}model."):
        return IN_OVSEG + name.removeprefix(f"{CLIP}model.")
    return proposer(name.removeprefix(PROPOSER)) if name.startswith(PROPOSER) else None
