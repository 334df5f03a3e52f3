"""Names in whole OVSeg checkpoints and here: the CLIP part, joined with the proposer's.

CLIP keeps OpenAI's names on both sides, behind a prefix. ``frozenseg.towers.vit_loading`` reads
files with CLIP alone: ``epoch_N.pt`` of fine-tuning and mask prompt tuning, or OpenAI's format.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from frozenseg.checkpoint import ovseg_proposer
from frozenseg.errors import UserError
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.region_classifiers.masked_crops import MaskedCrops
from frozenseg.towers.clip import PIXEL_MEAN, PIXEL_STD
from frozenseg.towers.clip_vit import PROMPTS, CropClip
from frozenseg.towers.vit_loading import IN_OVSEG

CLIP = "region_classifier.clip."
PROPOSER = "proposer."
# of CLIP; built into our tower
NORMALISATION = {"clip_adapter.pixel_mean": PIXEL_MEAN, "clip_adapter.pixel_std": PIXEL_STD}

State = Mapping[str, Tensor]
Renamed = tuple[dict[str, Tensor], list[str]]  # under the other names; names without a counterpart


def from_official(state: State) -> Renamed:
    """Returns a whole checkpoint under our names, and the official names without a counterpart.

    Values that follow from others or from the configuration are dropped.
    """
    known = {_to_ours(name): value for name, value in state.items() if name.startswith(IN_OVSEG)}
    others = {name: value for name, value in state.items() if not name.startswith(IN_OVSEG)}
    normalisation = {name: others.pop(name) for name in NORMALISATION if name in others}
    proposed, unknown = ovseg_proposer.from_official(others)
    known |= {PROPOSER + name: value for name, value in proposed.items()}
    return known, unknown + [name for name, v in normalisation.items() if not _is_ours(name, v)]


def to_official(state: State, *, num_classes: int = 171, no_object_weight: float = 0.1) -> Renamed:
    """Returns our state under official names, and our names without a counterpart.

    Args:
        state: of proposer and region classifier, under our names.
        num_classes: of the training vocabulary.
        no_object_weight: in the loss; the official loss keeps a tensor of class weights.
    """
    proposed, unknown = ovseg_proposer.to_official(
        {name.removeprefix(PROPOSER): v for name, v in state.items() if name.startswith(PROPOSER)},
        num_classes=num_classes,
        no_object_weight=no_object_weight,
    )
    unknown = [PROPOSER + name for name in unknown]
    known = dict(proposed)
    for name, value in state.items():
        if name == f"{CLIP}mask_prompts":
            known[IN_OVSEG + PROMPTS] = value
        elif name.startswith(f"{CLIP}model."):
            known[IN_OVSEG + name.removeprefix(f"{CLIP}model.")] = value
        elif not name.startswith(PROPOSER):
            unknown.append(name)
    known |= {name: torch.tensor(v).view(1, 3, 1, 1) for name, v in NORMALISATION.items()}
    return known, unknown


def holds_clip(tensors: State) -> bool:
    """Returns True if weights, under official names or ours, hold the region classifier's CLIP."""
    return any(name.startswith((IN_OVSEG, CLIP)) for name in tensors)


def clip_of(tensors: State) -> dict[str, Tensor]:
    """Returns the region classifier's CLIP of a whole system, under the names of OpenAI's CLIP."""
    found = {}
    for name, value in tensors.items():
        if name.startswith(IN_OVSEG):
            found[name.removeprefix(IN_OVSEG)] = value
        elif name == f"{CLIP}mask_prompts":
            found[PROMPTS] = value
        elif name.startswith(f"{CLIP}model."):
            found[name.removeprefix(f"{CLIP}model.")] = value
    return found


def load_clip_of(model: SegmentationModel, tensors: State, *, source: str) -> None:
    """Loads the CLIP of a whole system into the region classifier, every weight of it.

    Args:
        model: its region classifier is masked crops with a ViT.
        tensors: what ``holds_clip``.
        source: the name used in error messages.

    Raises:
        UserError: the region classifier has another CLIP, or the prompts are missing or of another
            depth.
    """
    regions = model.region_classifier
    if not isinstance(regions, MaskedCrops) or not isinstance(regions.clip, CropClip):
        raise UserError(
            f"{source} holds the ViT of masked crops, which this region classifier does not have: "
            "choose OVSeg's CLIP for it, or set MODEL.WEIGHTS_TOWERS to skip"
        )
    regions.clip.load_published(clip_of(tensors), source=source)


def _to_ours(name: str) -> str:
    name = name.removeprefix(IN_OVSEG)
    return f"{CLIP}mask_prompts" if name == PROMPTS else f"{CLIP}model.{name}"


def _is_ours(name: str, value: Tensor) -> bool:
    expected = value.new_tensor(NORMALISATION[name])
    return value.shape == (1, 3, 1, 1) and torch.allclose(value.flatten(), expected, atol=1e-3)
