"""Light weight files: of a trained CLIP, only the tensors that differ from a published one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from frozenseg.checkpoint.weights import TOWERS_KEY, tower_tensors
from frozenseg.errors import UserError
from frozenseg.io.text import one_line, quoted
from frozenseg.io.weight_files import WeightsFile, describe_differences
from frozenseg.towers.frozen import FrozenTower

BASE_NOTE = "clip_base"  # fingerprint of the published CLIP that a light file builds on


def changed_weights(
    trained: Mapping[str, Tensor], base: FrozenTower, *, source: str
) -> dict[str, Tensor]:
    """Returns the weights of a trained tower that are not those of its base, in the base's types.

    Args:
        trained: all weights of the tower.
        base: the published tower.
        source: the file's name in messages.

    Raises:
        UserError: the file holds no complete tower of the base's architecture.
    """
    published = base.model.state_dict()
    if differences := describe_differences(published, trained, limit=3):
        raise UserError(
            f"{one_line(source)} holds no complete CLIP like {base.name} ({differences}): choose "
            "the configuration that it was trained with"
        )
    own = {name: value.to(published[name].dtype) for name, value in trained.items()}
    return {name: value for name, value in own.items() if not torch.equal(value, published[name])}


def with_base(weights: WeightsFile, base: FrozenTower, *, source: str) -> WeightsFile:
    """Returns the weights of a light file with a whole CLIP.

    Args:
        weights: of the light file.
        base: the tower that it builds on.
        source: the file's name in messages.

    Raises:
        UserError: the file builds on another tower.
    """
    noted = weights.notes[BASE_NOTE]
    if noted != base.fingerprint:
        raise UserError(
            f"{one_line(source)} holds only the differences to another CLIP ({quoted(noted)}) than "
            f"{base.name} ({base.fingerprint}): choose that one, or set {TOWERS_KEY} to skip"
        )
    whole = tower_tensors({"clip": base.model.state_dict()})
    notes = {name: text for name, text in weights.notes.items() if name != BASE_NOTE}
    return WeightsFile({**whole, **weights.tensors}, notes)
