"""Tensors from a file, whoever wrote it, without running any of its code."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from frozenseg.errors import UserError

# plain arrays, as Detectron2's model zoo holds them; they run no code
_NUMPY_GLOBALS = [
    multiarray._reconstruct,
    multiarray.scalar,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")),
    # the same under the name that files of NumPy 1 hold
    (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
]
_WRAPPERS = ("model", "state_dict")  # Detectron2, open_clip


class WeightsFile(NamedTuple):
    """The tensors of a file, on the CPU, and what a safetensors file notes beside them."""

    tensors: dict[str, Tensor]
    notes: dict[str, str]


def read_weights(path: str | Path) -> WeightsFile:
    """Reads safetensors, or what ``torch.save`` wrote.

    A dictionary under ``model`` or ``state_dict`` is unwrapped, arrays become tensors, and the
    ``module.`` that a parallel wrapper puts before every name goes.

    Raises:
        UserError: no such file; it is cut short or damaged; it would need code to run; it holds no
            weights.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"no weights file {path}: give the path of a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return WeightsFile(_flat_state(_read_torch(path), path), {})


def describe_differences(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], *, limit: int = 6
) -> str:
    """Which names are missing or unknown and which shapes differ, in words; empty where all fit."""
    shapes = [
        f"{name} is {tuple(found[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    groups = (("", shapes), ("missing ", missing), ("unknown ", unknown))
    return "; ".join(word + _first(names, limit) for word, names in groups if names)


def _first(names: list[str], limit: int) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return WeightsFile(tensors, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(_damaged(path, str(error))) from error


def _read_torch(path: Path) -> Any:
    mapped = zipfile.is_zipfile(path)
    try:
        with torch.serialization.safe_globals(_NUMPY_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what it would say, the errors below say
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(_refusal(path, str(error))) from error


def _refusal(path: Path, reason: str) -> str:
    code = re.search(r"GLOBAL ([\w.]+)", reason)
    if "TorchScript" in reason:
        what = "it is a TorchScript archive, which holds code beside weights"
    elif code:
        what = f"to read it Python would have to run code that it names ({code[1]})"
    elif _is_plain_pickle(path):
        what = "it is a plain pickle, which can name any code to be run"
    else:
        return _damaged(path, reason)
    return (
        f"{path} is refused: {what}; take the same weights as safetensors if there are any, or, if "
        "you trust its origin, load it there and save the weights alone with "
        "torch.save(model.state_dict(), path)"
    )


def _is_plain_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.read(1)
        file.seek(-len(first), 2)
        return first == pickle.PROTO and file.read(1) == pickle.STOP


def _damaged(path: Path, reason: str) -> str:
    first = reason.splitlines()[0] if reason else "its end is missing"
    size = path.stat().st_size
    return f"{path} ({size:,} bytes) is cut short or damaged ({first}): get it again"


def _flat_state(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__} where a dictionary of weights is expected"
        )
    state = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in content.items()
    }
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        what = f"'{others[0]}' is a {type(state[others[0]]).__name__}" if others else "it is empty"
        raise UserError(
            f"{path} holds no plain dictionary of weights ({what}): give a model's state"
        )
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state
