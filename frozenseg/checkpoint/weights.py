"""A model's trained weights: from any file known to hold them, and to a file of our own."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from frozenseg.checkpoint.official import from_official, is_official, to_official
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.weight_files import WeightsFile, describe_differences, read_weights
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.towers.frozen import FrozenTower

logger = logging.getLogger(__name__)

FORMAT = "frozenseg-weights-1"
FOLDER_FILE = "weights.safetensors"  # of a training's checkpoint folder

TOWERS_KEY = "MODEL.WEIGHTS_TOWERS"
Towers = Literal["compare", "skip", "use"]


def load_weights(model: FrozenSeg, path: str | Path, *, towers: Towers = "compare") -> None:
    """Takes over trained weights: our own, or a published FrozenSeg or FC-CLIP checkpoint.

    Every weight is accounted for. The SAM branch is laid out as in the file (published weights read
    theirs as three levels), whatever the configuration says.

    Args:
        path: a file, or a checkpoint's folder.
        towers: what to do about the frozen towers that the file holds or names: ``compare`` them
            with the model's, ``skip`` them, or ``use`` those in the file.

    Raises:
        UserError: the file cannot be read; it belongs to another architecture or other towers; or
            ``use`` finds no towers in it.
    """
    if not str(path):
        raise UserError(
            "MODEL.WEIGHTS is empty: set it to trained weights, ours or an official .pth"
        )
    path = Path(path).expanduser()
    path = path / FOLDER_FILE if path.is_dir() else path
    load_state(model, read_weights(path), source=str(path), towers=towers)


def load_state(
    model: FrozenSeg, weights: WeightsFile, *, source: str, towers: Towers = "compare"
) -> None:
    """The same for weights at hand; ``source`` is what messages call them."""
    if towers not in get_args(Towers):
        raise UserError(f"{TOWERS_KEY} is {towers!r}: set it to compare, skip or use")
    trained, in_towers = split_state(weights.tensors, source=source)
    _check_sizes(model, trained, source)
    model.load_trainable_state(trained, source=source)
    for key, tower in towers_of(model).items():
        own = in_towers.get(key, {})
        if towers == "use":
            _use(tower, own, key, source)
        elif towers == "compare":
            _compare(tower, own, weights.notes.get(key), key, source)
    logger.info("%s: %d trained weights", source, len(trained))


def split_state(
    state: Mapping[str, Tensor], *, source: str
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Under our names: the trained weights, and those of each tower (``clip``, ``sam``).

    Raises:
        UserError: official weights that this model does not know.
    """
    if is_official(state):
        state, unknown = from_official(state)
        if unknown:
            raise UserError(
                f"{source} holds weights that this model does not know: {_few(unknown)}"
            )
    trained: dict[str, Tensor] = {}
    towers: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        owner, _, rest = name.partition(".model.")
        if owner in ("clip", "sam"):
            towers.setdefault(owner, {})[rest] = value
        else:
            trained[name] = value
    return trained, towers


def save_weights(
    model: FrozenSeg, path: str | Path, *, about: Mapping[str, str] | None = None
) -> None:
    """Writes the trained weights as safetensors, with the names of the towers that they belong to.

    Args:
        about: more to note beside them.
    """
    write_trained(
        model.trainable_state(), Path(path), notes={**tower_notes(model), **(about or {})}
    )


def write_trained(state: Mapping[str, Tensor], path: Path, *, notes: Mapping[str, str]) -> None:
    """The same for weights at hand, and what is known of their towers."""
    with atomic_write(path) as part:
        tensors = {name: value.contiguous() for name, value in state.items()}
        save_file(tensors, part, {"format": FORMAT, **notes})


def tower_notes(model: FrozenSeg) -> dict[str, str]:
    """What a checkpoint says of its towers: ``clip`` and ``sam`` fingerprints and their names."""
    notes: dict[str, str] = {}
    for key, tower in towers_of(model).items():
        notes |= {key: tower.fingerprint, f"{key}_name": tower.name}
    return notes


def official_state(
    model: FrozenSeg, *, num_classes: int, no_object_weight: float, with_towers: bool = True
) -> dict[str, Tensor]:
    """The model as the official code stores it.

    Args:
        num_classes, no_object_weight: of the training, from which the official loss keeps a tensor.

    Raises:
        UserError: the official code has no place for what this model has.
    """
    branch = model.pixel_decoder.sam_branch
    if branch is not None and branch.encoder.num_levels == 1:
        raise UserError(
            "the official code cannot run this model: its SAM branch attends to one level, the "
            "official one reads parameters laid out for three; train with "
            "MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT three_level to export"
        )
    state = model.trainable_state()
    if with_towers:
        for key, tower in towers_of(model).items():
            state |= {f"{key}.model.{n}": v for n, v in tower.model.state_dict().items()}
    official, unknown = to_official(
        state, num_classes=num_classes, no_object_weight=no_object_weight
    )
    if unknown:
        raise UserError(f"the official code has no place for {_few(unknown)}")
    return official


def towers_of(model: FrozenSeg) -> dict[str, FrozenTower]:
    """Returns the frozen towers of a model under the names that weight files use."""
    found = {"clip": model.backbone, "sam": model.sam}
    return {name: tower for name, tower in found.items() if isinstance(tower, FrozenTower)}


def _check_sizes(model: FrozenSeg, trained: Mapping[str, Tensor], source: str) -> None:
    """Says in words what a list of shapes would only hint at: weights for other towers."""
    has_sam = any(name.startswith("pixel_decoder.sam_branch.") for name in trained)
    if has_sam != (model.pixel_decoder.sam_branch is not None):
        found, wanted = ("with", "without") if has_sam else ("without", "with")
        raise UserError(
            f"{source} holds a model {found} SAM, the configuration describes one {wanted} it: "
            f"choose the configuration of {'FrozenSeg' if has_sam else 'FC-CLIP'}"
        )
    names = ["lateral.0.weight", *(f"projections.{i}.0.weight" for i in (2, 1, 0))]
    sized = [f"pixel_decoder.{name}" for name in names] + ["void_embedding.weight"]
    if any(name not in trained for name in sized):
        return  # incomplete: the list of missing names says more
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
    tower: FrozenTower, own: dict[str, Tensor], noted: str | None, key: str, source: str
) -> None:
    """Weights serve only the frozen towers that they were trained with."""
    title = tower.name or f"the configured {key} tower"
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
        differences = f"other values in {_few(other)}" if other else ""
    if differences:
        raise UserError(
            f"{source} holds another {key} tower than {title} ({differences}): choose that one, or "
            f"set {TOWERS_KEY} to use, for the file's, or to skip"
        )


def _same(value: Tensor, present: Tensor) -> bool:
    """Equal but for rounding; counters of training steps tell nothing."""
    return not value.is_floating_point() or torch.allclose(value.to(present), present, 1e-5, 1e-6)


def _few(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
