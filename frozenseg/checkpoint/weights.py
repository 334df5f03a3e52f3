"""A model's trained weights: read from any file that holds them, written to our own format."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from frozenseg.checkpoint import ovseg
from frozenseg.checkpoint.official import from_official, is_official, to_official
from frozenseg.checkpoint.ovseg_proposer import is_ovseg
from frozenseg.errors import UserError
from frozenseg.io.files import is_file, user_path
from frozenseg.io.safetensors_files import write_safetensors
from frozenseg.io.text import one_line, quoted
from frozenseg.io.weight_files import (
    WeightsFile,
    describe_differences,
    first_names,
    read_weights,
)
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.modeling.trained import TrainedProposer
from frozenseg.towers.frozen import FrozenTower

logger = logging.getLogger(__name__)

FORMAT = "frozenseg-weights-2"  # with a digest; files of format 1 have none
FOLDER_FILE = "weights.safetensors"  # of a training's checkpoint folder

MEMBER_PREFIXES = ("region_classifier.adapter.", "text_transfer.network.")  # trained members
PROPOSER = "proposer."  # prefix of the trained member in a whole system's state
TOWER_NAMES = {"backbone": "clip", "clip": "clip", "sam": "sam"}  # in states, and in notes
TOWERS_KEY = "MODEL.WEIGHTS_TOWERS"
TRAINED_NOTE = "trained_towers"  # lists the towers that are part of the weights: "clip"
Towers = Literal["compare", "skip", "use"]


def open_weights(path: str | Path) -> WeightsFile:
    """Reads a weights file, an index of shards, or the folder of a checkpoint.

    Raises:
        UserError: the path is empty or nothing is there; the file is damaged, or holds what no
            weight is.
    """
    if not str(path):
        raise UserError(
            "MODEL.WEIGHTS is empty: set it to trained weights, ours or an official .pth"
        )
    path = user_path(path)
    own = path / FOLDER_FILE
    return read_weights(own if is_file(own) else path)


def load_weights(model: TrainedProposer, path: str | Path, *, towers: Towers = "compare") -> None:
    """Loads trained weights: our own, or a published FrozenSeg, FC-CLIP or OVSeg checkpoint.

    Every weight is accounted for.

    Args:
        model: built with the architecture, and the SAM branch's layout, of the weights.
        path: a file, or a checkpoint's folder.
        towers: what to do about the frozen towers that the file holds or names: ``compare`` them
            with the model's, ``skip`` them, or ``use`` those in the file.

    Raises:
        UserError: the file cannot be read; it belongs to another architecture or other towers; or
            ``use`` finds no towers in it.
    """
    load_state(model, open_weights(path), source=str(path), towers=towers)


def load_state(
    model: TrainedProposer, weights: WeightsFile, *, source: str, towers: Towers = "compare"
) -> None:
    """Like ``load_weights``, for weights in memory.

    Args:
        model: built with the architecture of the weights.
        weights: what ``open_weights`` returned.
        source: the file's name in messages.
        towers: as in ``load_weights``.

    Raises:
        UserError: the weights belong to another architecture or other towers.
    """
    if towers not in get_args(Towers):
        raise UserError(f"{TOWERS_KEY} is {quoted(towers)}: set it to compare, skip or use")
    source = one_line(source)
    parts = split_state(weights.tensors, source=source)
    trained = _stored_once(parts.proposer, _shared_names(model), source)
    if isinstance(model, FrozenSeg):
        _check_sizes(model, trained, source)
    model.load_trainable_state(trained, source=source)
    for key, tower in towers_of(model).items():
        own = parts.towers.get(key, {})
        if towers == "use" and (own or not parts.towers):
            _use(tower, own, key, source)
        elif towers != "skip":  # a file with a trained CLIP names its SAM, and does not hold it
            _compare(tower, own, weights.notes, key, source)
    logger.info("%s: %d trained weights", source, len(trained))


class StoredParts(NamedTuple):
    """The weights of a file under our names, sorted by what they belong to."""

    proposer: dict[str, Tensor]
    towers: dict[str, dict[str, Tensor]]  # of "clip" and "sam"
    members: dict[str, Tensor]  # of other trained members, with their prefix

    def trained(self) -> dict[str, Tensor]:
        """Returns all trained weights under the names that weight files use."""
        return {**self.proposer, **self.members}


def split_state(state: Mapping[str, Tensor], *, source: str) -> StoredParts:
    """Sorts the weights of a file, under official names or ours.

    Raises:
        UserError: official weights that this model does not know.
    """
    if is_official(state) or is_ovseg(state):
        state, unknown = (ovseg.from_official if is_ovseg(state) else from_official)(state)
        if unknown:
            raise UserError(
                f"{source} holds weights that this model does not know: {first_names(unknown)}"
            )
    parts = StoredParts({}, {}, {})
    for name, value in _of_proposer(state).items():
        owner, _, rest = name.partition(".model.")
        if owner in TOWER_NAMES:
            parts.towers.setdefault(TOWER_NAMES[owner], {})[rest] = value
        elif name.startswith(MEMBER_PREFIXES):
            parts.members[name] = value
        else:
            parts.proposer[name] = value
    return parts


def tower_tensors(towers: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Returns the weights of towers under the names that weight files use."""
    return {
        f"{key}.model.{name}": value
        for key, state in towers.items()
        for name, value in state.items()
    }


def stored_towers(model: TrainedProposer) -> dict[str, Tensor]:
    """Returns the towers that came from a file of weights, under the names that files use."""
    found = {
        key: tower.model.state_dict() for key, tower in towers_of(model).items() if tower.stored
    }
    return tower_tensors(found)


def trained_note(keys: Iterable[str]) -> dict[str, str]:
    """Returns the note that names towers as part of the weights; none if there are none."""
    names = ",".join(sorted(keys))
    return {TRAINED_NOTE: names} if names else {}


def holds_whole_clip(tensors: Mapping[str, Tensor]) -> bool:
    """Returns True if weights, under official names or ours, hold both halves of a CLIP tower."""
    halves = {
        "visual" in name.split(".")
        for name in tensors
        if name.startswith(("backbone.clip_model.", "clip.model.", "proposer.backbone.model."))
    }
    return len(halves) == 2


def _of_proposer(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns the proposer's part of a whole system's ``state_dict()``; other states unchanged.

    Trained members keep their names. The region classifier of OVSeg is loaded by
    ``frozenseg.checkpoint.ovseg``.
    """
    if not any(name.startswith(PROPOSER) for name in state):
        return state
    kept = (PROPOSER, *MEMBER_PREFIXES)
    return {n.removeprefix(PROPOSER): value for n, value in state.items() if n.startswith(kept)}


def save_weights(
    model: TrainedProposer, path: str | Path, *, about: Mapping[str, str] | None = None
) -> None:
    """Writes the trained weights as safetensors, with the names of the towers that they belong to.

    Towers that came from a file of weights are written, too.

    Args:
        model: whose weights.
        path: the file to write.
        about: further notes beside the weights.

    Raises:
        UserError: the file cannot be written.
    """
    state = model.trainable_state() | stored_towers(model)
    write_trained(state, Path(path), notes={**tower_notes(model), **(about or {})})


def write_trained(state: Mapping[str, Tensor], path: Path, *, notes: Mapping[str, str]) -> None:
    """Writes trained weights in memory, with a digest and notes about their towers."""
    write_safetensors(state, path, {"format": FORMAT, **notes})


def tower_notes(model: TrainedProposer) -> dict[str, str]:
    """Returns what a checkpoint notes about its towers: fingerprints, names, which were trained."""
    towers = towers_of(model)
    notes = trained_note(key for key, tower in towers.items() if tower.stored)
    for key, tower in towers.items():
        notes |= {key: tower.fingerprint, f"{key}_name": tower.name}
    return notes


def official_state(
    model: FrozenSeg,
    *,
    num_classes: int,
    no_object_weight: float,
    with_towers: bool = True,
    members: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Returns the model's weights as the official code stores them.

    Args:
        model: with a three-level SAM branch, or none.
        num_classes: of the training vocabulary; the official loss keeps a tensor of this size.
        no_object_weight: of the training loss, stored in that tensor.
        with_towers: also return the weights of the frozen towers.
        members: weights of trained members beside the proposer, with their prefix.

    Raises:
        UserError: the official code has no place for a part of this model.
    """
    branch = model.pixel_decoder.sam_branch
    if branch is not None and branch.encoder.num_levels == 1:
        raise UserError(
            "the official code cannot run this model: its SAM branch attends to one level, the "
            "official one reads parameters laid out for three; train with "
            "MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT three_level to export"
        )
    state = {**model.trainable_state(), **(members or {})}
    if with_towers:
        found = {key: tower.model.state_dict() for key, tower in towers_of(model).items()}
        state |= tower_tensors(found)
    official, unknown = to_official(
        state, num_classes=num_classes, no_object_weight=no_object_weight
    )
    if unknown:
        raise UserError(f"the official code has no place for {first_names(unknown)}")
    return official


def towers_of(model: TrainedProposer) -> dict[str, FrozenTower]:
    """Returns the frozen towers of a model under the names that weight files use."""
    if not isinstance(model, FrozenSeg):
        return {}
    found = {"clip": model.backbone, "sam": model.sam}
    return {name: tower for name, tower in found.items() if isinstance(tower, FrozenTower)}


def _shared_names(model: TrainedProposer) -> dict[str, str]:
    """Returns, for each further name of a shared weight, the name that it is trained under."""
    first: dict[int, str] = {}
    shared: dict[str, str] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(value), name)
        if known != name:
            shared[name] = known
    return shared


def _stored_once(
    trained: Mapping[str, Tensor], shared: Mapping[str, str], source: str
) -> dict[str, Tensor]:
    """Returns trained weights without the further names of shared ones.

    Raises:
        UserError: the names of a shared weight have different values.
    """
    once = {name: value for name, value in trained.items() if name not in shared}
    for name, known in shared.items():
        value = trained.get(name)
        if value is not None and not torch.equal(once.setdefault(known, value), value):
            raise UserError(
                f"{source} has different values for {known} and {name}, which are one weight in "
                "this model: choose the configuration that it was trained with"
            )
    return once


def _check_sizes(model: FrozenSeg, trained: Mapping[str, Tensor], source: str) -> None:
    """Explains weights for other towers, which a list of shapes would only hint at."""
    has_sam = any(name.startswith("pixel_decoder.sam_branch.") for name in trained)
    if has_sam != (model.pixel_decoder.sam_branch is not None):
        found, wanted = ("with", "without") if has_sam else ("without", "with")
        raise UserError(
            f"{source} holds a model {found} SAM, the configuration describes one {wanted} it: "
            f"choose the configuration of {'FrozenSeg' if has_sam else 'FC-CLIP'}"
        )
    names = ["lateral.0.weight", *(f"projections.{i}.0.weight" for i in (2, 1, 0))]
    sized = [f"pixel_decoder.{name}" for name in names] + ["void_embedding.weight"]
    if any(name not in trained or trained[name].dim() < 2 for name in sized):
        return  # incomplete: the list of differences says more
    found = tuple(trained[name].shape[1] for name in sized)
    own_width = model.void_embedding.embedding_dim
    if found != (*model.backbone.channels, own_width):
        *channels, width = found
        name = towers_of(model)["clip"].name or "the configured one"
        raise UserError(
            f"{source} was trained on a CLIP tower with {_channels(channels)} channels and "
            f"{width}-wide embeddings, but {name} has "
            f"{_channels(model.backbone.channels)} and {own_width}: set CLIP_MODEL_NAME to "
            "the tower that it was trained on"
        )


def _channels(counts: Sequence[int]) -> str:
    return "/".join(map(str, counts))


def _use(tower: FrozenTower, own: dict[str, Tensor], key: str, source: str) -> None:
    differences = describe_differences(tower.model.state_dict(), own, limit=3)
    if differences:
        raise UserError(
            f"{source} holds no complete {key} tower ({differences}): set {TOWERS_KEY} to compare "
            "or skip"
        )
    tower.load(own)


def _compare(
    tower: FrozenTower, own: dict[str, Tensor], notes: Mapping[str, str], key: str, source: str
) -> None:
    """Refuses weights that were trained with other frozen towers than the model's."""
    title = tower.name or f"the configured {key} tower"
    noted = notes.get(key)
    if noted != tower.fingerprint and key in notes.get(TRAINED_NOTE, "").split(","):
        raise UserError(
            f"{source} holds a {key} tower that was trained with it ({noted}), not {title}: set "
            f"{TOWERS_KEY} to use"
        )
    if noted is not None and noted != tower.fingerprint:
        raise UserError(
            f"{source} was trained with another {key} tower ({noted}) than {title} "
            f"({tower.fingerprint}): choose that one, or set {TOWERS_KEY} to skip"
        )
    if not own:
        return
    present = tower.model.state_dict()
    differences = describe_differences(present, own, limit=3)
    if not differences:
        other = [name for name, value in own.items() if not _same(value, present[name])]
        differences = f"other values in {first_names(other)}" if other else ""
    if differences:
        raise UserError(
            f"{source} holds another {key} tower than {title} ({differences}): choose that one, or "
            f"set {TOWERS_KEY} to use, for the file's, or to skip"
        )


def _same(value: Tensor, present: Tensor) -> bool:
    """Returns True if floats are equal up to rounding; integers are counters and not compared."""
    if not present.is_floating_point():
        return True
    rounding = max(1e-5, torch.finfo(value.dtype).eps)  # a file may hold half precision
    return torch.allclose(value.to(present), present, rounding, 1e-6)
