"""Weights from a file of any kind: recognised by content, unwrapped, checked, never executed."""

import glob
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.io.documents import read_json
from frozenseg.io.files import is_file, is_folder, no_weights_file, user_path
from frozenseg.io.gates import parser_gate
from frozenseg.io.safetensors_files import damaged, read_safetensors
from frozenseg.io.text import one_line, quoted
from frozenseg.io.torch_files import LEGACY_MAGIC, is_plain_pickle, read_torch, refusal
from frozenseg.io.wrappings import unwrapped

MAX_INDEX_BYTES = 1 << 26
INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# what trained weights, counters and masks have; complex, quantised and 8-bit floats are none
WEIGHT_TYPES = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool,
}  # fmt: skip


class WeightsFile(NamedTuple):
    """The tensors of a file, on the CPU, and the notes that a safetensors file has beside them."""

    tensors: dict[str, Tensor]
    notes: dict[str, str]


def read_weights(path: str | Path) -> WeightsFile:
    """Reads safetensors, files of ``torch.save``, or an index of shards, whatever their ending.

    Containers of training programs (``state_dict``, ``model``, ...) are unwrapped, prefixes of
    wrappers (``module.``, ``_orig_mod.``, ``model.``) are removed, and arrays become tensors.

    Args:
        path: the file, an index of shards, or a folder with such an index.

    Raises:
        UserError: no such file; it is damaged; it would need code to run; it holds no weights, or
            weights that no model has (NaN, infinity, complex numbers).
    """
    path = _index_of(user_path(path))
    if not is_file(path):
        raise no_weights_file(path)
    read = _read_shards if _is_index(path) else _read_file
    weights = read(path)
    _check_tensors(weights.tensors, path)
    return weights


def describe_differences(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], *, limit: int = 6
) -> str:
    """Returns which names are missing or unknown and which shapes or types differ; empty if none.

    A floating-point weight fits one of another precision, but no integer.
    """
    shapes = [
        f"{name} is {tuple(found[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    types = [
        f"{name} has the type {found[name].dtype}, expected {value.dtype}"
        for name, value in expected.items()
        if name in found and value.is_floating_point() and not found[name].is_floating_point()
    ]
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    groups = (("", shapes), ("", types), ("missing ", missing), ("unknown ", unknown))
    return "; ".join(word + first_names(names, limit) for word, names in groups if names)


def load_exactly(own: Mapping[str, Tensor], state: Mapping[str, Tensor], *, source: str) -> None:
    """Copies trained weights into a model's own tensors.

    Args:
        own: the model's tensors, which share its memory.
        state: the weights.
        source: where they were read, for the message.

    Raises:
        UserError: weights are missing, unknown or of another shape; each is named.
    """
    if differences := describe_differences(own, state):
        raise UserError(
            f"{source} holds weights of another architecture: {differences}. Choose the "
            "configuration that it was trained with"
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(state[name])


def load_fitting(model: nn.Module, path: Path, *, owner: str) -> None:
    """Loads a file of weights that must have exactly the model's names, shapes and types.

    Args:
        model: of a known architecture.
        path: the file.
        owner: what the file must fit, for the message.

    Raises:
        UserError: the file cannot be read or does not fit.
    """
    state = read_weights(path).tensors
    if differences := describe_differences(model.state_dict(), state, limit=3):
        raise UserError(
            f"{one_line(path)} does not fit {owner} ({differences}): get the file that belongs to "
            "it"
        )
    assign_weights(model, state)


def assign_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Makes these tensors the weights of a model, in the model's types; equal types are not copied.

    Tensors that are mapped from a file stay mapped: their bytes are read when they are used.

    Args:
        model: on the CPU.
        state: its names and shapes, which ``describe_differences`` has compared.
    """
    own = model.state_dict()
    fitting = {name: value.to(own[name].dtype).contiguous() for name, value in state.items()}
    model.load_state_dict(fitting, assign=True)


def first_names(names: list[str], limit: int = 4) -> str:
    """Returns the first names of a list, each shortened, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(one_line(name)[:150] for name in names[:limit]) + more


def _read_file(path: Path) -> WeightsFile:
    """Reads one file by its first bytes."""
    with parser_gate(path, advice="give a readable file"), path.open("rb") as file:
        start = file.read(256)
    if start.startswith(b"PK\x03\x04"):
        return WeightsFile(_flat_state(read_torch(path, zipped=True), path), {})
    if LEGACY_MAGIC in start[:32]:
        return WeightsFile(_flat_state(read_torch(path, zipped=False), path), {})
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        tensors, notes = read_safetensors(path, digest_required=False)
        return WeightsFile(_flat_state(tensors, path), notes)
    raise UserError(_what_else(path, start))


def _what_else(path: Path, start: bytes) -> str:
    if start.startswith(b"version https://git-lfs"):
        return f"{one_line(path)} is a pointer of Git LFS, not the file itself: run git lfs pull"
    if start.lstrip()[:1] == b"<":
        return f"{one_line(path)} is a web page, not weights: download the file that it links to"
    if start and is_plain_pickle(path):
        return refusal(path, "it is a plain pickle, which can name any code to be run")
    return damaged(path, "it begins like no file of weights" if start else "it is empty")


def _index_of(path: Path) -> Path:
    """Returns the index of a folder of shards, or of the folder that a shard lies in."""
    is_shard = re.search(r"-\d{5}-of-\d{5}\.\w+$", path.name) is not None
    if not (is_shard or is_folder(path)):
        return path
    folder = path.parent if is_shard else path
    name = path.name.split("-")[0] if is_shard else ""
    candidates = [*folder.glob(f"{glob.escape(name)}*.index.json")] if is_shard else []
    candidates += [folder / name for name in INDEX_FILES]
    return next((each for each in candidates if is_file(each)), path)


def _is_index(path: Path) -> bool:
    with parser_gate(path, advice="give a readable file"), path.open("rb") as file:
        return file.read(256).lstrip()[:1] == b"{"


def _read_shards(path: Path) -> WeightsFile:
    """Reads the files that an index lists, each holding the names that the index gives it."""
    index = read_json(path, max_bytes=MAX_INDEX_BYTES)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(
            f"{one_line(path)} is JSON but no index of weights: give a .safetensors or .pth file"
        )
    tensors: dict[str, Tensor] = {}
    notes: dict[str, str] = {}
    for name in dict.fromkeys(map(str, places.values())):
        if Path(name).name != name:
            raise UserError(
                f"{one_line(path)} names the file {quoted(name)}, which is not beside it: put all "
                "shards in one folder"
            )
        if not is_file(path.parent / name):
            raise UserError(
                f"{one_line(path)} names {quoted(name)}, which does not exist: put it beside it"
            )
        shard = _read_file(path.parent / name)
        tensors |= shard.tensors
        notes |= shard.notes
    missing = [name for name in unwrapped(places) if name not in tensors]
    if missing:
        raise UserError(
            f"{one_line(path)} lists weights that its files do not hold: {first_names(missing)}; "
            "get the shards again"
        )
    return WeightsFile(tensors, notes)


def _flat_state(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise UserError(
            f"{one_line(path)} holds a {type(content).__name__} where a dictionary of weights is "
            "expected: save one with torch.save(model.state_dict(), path)"
        )
    state = {name: _as_tensor(value) for name, value in unwrapped(content).items()}
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        what = "it is empty"
        if others:
            what = f"{quoted(others[0])} is a {type(state[others[0]]).__name__}"
        raise UserError(
            f"{one_line(path)} holds no plain dictionary of weights ({what}): save one with "
            "torch.save(model.state_dict(), path)"
        )
    return state


def _as_tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    try:
        return torch.from_numpy(value)
    except (TypeError, ValueError):  # text, objects, another byte order
        return value


def _check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuses what no weight is, and views that would need more memory than the file holds."""
    for name, problem in _problems(tensors):
        raise UserError(
            f"{one_line(path)} holds {one_line(name)[:150]}, which {problem}: get it again, or use "
            "an earlier checkpoint"
        )


def _problems(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    for name, value in tensors.items():
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            yield name, "is not a plain dense tensor"
        elif value.dtype not in WEIGHT_TYPES:
            yield name, f"has the type {value.dtype}, which no weight has"
        elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
            yield name, "has more elements than are stored"
        elif value.is_floating_point() and not _is_finite(value):
            yield name, "holds NaN or infinite numbers"


def _is_finite(value: Tensor) -> bool:
    """Returns True if there is no NaN or infinity; one pass that needs no memory."""
    return not value.numel() or all(bound.isfinite() for bound in value.aminmax())
