"""Weight files of any origin, and the folders of frozen towers."""

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.mutate import damaged_json, edit_file, edits, odd_value

ROOT = Path(__file__).resolve().parents[3]
HEAD = ROOT / "frozenseg/weights/shapes/head.safetensors"
TYPES = (
    "float32", "float16", "bfloat16", "float64", "int64", "int8", "uint8", "bool", "complex64",
    "float8_e4m3fn", "uint16",
)  # fmt: skip
STRUCTURES = (
    "model", "nested", "state_dict", "cycle", "list", "tensor", "number", "none", "int keys",
    "numpy", "string", "parameter", "module", "sparse",
    "meta", "view", "empty", "shared", "object", "module.", "bytes", "deep", "numpy object",
    "mixed", "quantised", "half the names", "more names", "other shape",
)  # fmt: skip
VALUES = ("same", "nan", "inf", "zeros", "huge")


@cache
def trained() -> dict[str, Tensor]:
    """The weights of the miniature model as its file names them."""
    with safe_open(HEAD, "pt") as file:
        return {name: file.get_tensor(name) for name in list(file.keys())}


@cache
def expected() -> dict[str, Tensor]:
    return {name: value.clone() for name, value in loaded_state(HEAD).items()}


def loaded_state(path: Path) -> dict[str, Tensor]:
    """The whole model's state after ``frozenseg.load`` with these weights."""
    import frozenseg

    segmenter: Any = frozenseg.load("shapes", weights=path, device="cpu")
    return segmenter.model.state_dict()


@cache
def own_file() -> bytes:
    """A weights file as this version of the project writes it."""
    from frozenseg.builders.weight_conversion import to_own_layout
    from frozenseg.config import load_config

    with tempfile.TemporaryDirectory() as folder:
        to_own_layout(HEAD, Path(folder) / "own.safetensors", load_config("shapes/frozenseg.yaml"))
        return (Path(folder) / "own.safetensors").read_bytes()


def _make(suffix: str):
    def make(rng: Random) -> Case:
        size = 4_000_000
        roll = rng.random()
        arguments: dict[str, Any] = {
            "suffix": suffix,
            "structure": "model",
            "type": "float32",
            "value": "same",
            "edits": [],
        }
        if roll < 0.5:
            arguments["edits"] = edits(rng, size)
        elif roll < 0.62:
            arguments |= {"type": rng.choice(TYPES)}
        elif roll < 0.72:
            arguments |= {"value": rng.choice(VALUES), "one": rng.random() < 0.5}
        else:
            arguments |= {"structure": rng.choice(STRUCTURES)}
        arguments["own"] = suffix == "safetensors" and rng.random() < 0.5
        return Case(f"{suffix}_files", arguments)

    return make


def _run(arguments: Any, folder: Path) -> None:
    path = folder / f"weights.{arguments['suffix']}"
    own = arguments["own"] and _is_plain(arguments)
    if own:
        path.write_bytes(own_file())
    else:
        content = _structure(arguments)
        try:
            torch.save(content, path) if path.suffix == ".pth" else save_file(content, path)
        except Exception:  # this format cannot hold it
            return
    changed = edit_file(path, arguments["edits"]) if arguments["edits"] else False
    _check_loaded(loaded_state(path), arguments, own=own and changed)


def _is_plain(arguments: Any) -> bool:
    plain = {"structure": "model", "type": "float32", "value": "same"}
    return all(arguments[key] == value for key, value in plain.items())


def _check_loaded(state: dict[str, Tensor], arguments: Any, *, own: bool) -> None:
    """Accepted weights are finite numbers, and those of a damaged file of ours are unchanged."""
    if not all(value.isfinite().all() for value in state.values()):
        raise WrongResult("weights that are not finite were accepted")
    if arguments["type"] in ("int64", "int8", "uint8", "bool", "complex64", "uint16"):
        raise WrongResult(f"weights of type {arguments['type']} were accepted")
    if own and any(not torch.equal(value, expected()[name]) for name, value in state.items()):
        raise WrongResult("a damaged file of our own was accepted with other values")


def _structure(arguments: Any) -> Any:
    state: dict[str, Any] = {name: _value(value, arguments) for name, value in trained().items()}
    if arguments.get("one") and arguments["value"] != "same":
        first = next(iter(state))
        state = {**trained(), first: state[first]}
    names = list(state)
    kind = arguments["structure"]
    if kind in ("half the names", "more names", "other shape"):
        changed = {
            "half the names": {name: state[name] for name in names[::2]},
            "more names": {
                **state,
                "x" * 500: torch.ones(2),
                "a\x1b[31m": torch.ones(1),
                "": torch.ones(1),
            },
            "other shape": {**state, names[3]: torch.ones(7, 1), names[4]: torch.ones(())},
        }
        return changed[kind]
    return state if kind == "model" or arguments["suffix"] == "safetensors" else _odd(kind, state)


def _odd(kind: str, state: dict[str, Tensor]) -> Any:
    first = next(iter(state))
    cycle: dict[str, Any] = {}
    cycle["model"] = cycle
    deep: Any = state
    for _ in range(400):
        deep = {"model": deep}
    makers: dict[str, Callable[[], Any]] = {
        "nested": lambda: {"model": state}, "state_dict": lambda: {"state_dict": {"model": state}},
        "cycle": lambda: cycle,
        "list": lambda: [state], "tensor": lambda: state[first], "number": lambda: 7,
        "none": lambda: None, "string": lambda: "weights",
        "int keys": lambda: {1: state[first], None: state[first]},
        "numpy": lambda: {"model": {k: v.numpy() for k, v in state.items()}},
        "parameter": lambda: {k: torch.nn.Parameter(v) for k, v in state.items()},
        "module": lambda: torch.nn.Linear(2, 2),
        "view": lambda: {k: v.expand(2, *v.shape)[0] for k, v in state.items()}, "empty": dict,
        "bytes": lambda: b"x",
        "shared": lambda: dict.fromkeys(state, state[first]),
        "object": lambda: {"model": Path("x")}, "deep": lambda: deep,
        "module.": lambda: {f"module.{k}": v for k, v in state.items()}, "mixed": lambda: {**state,
        1: state[first], "epoch": 3},
        "numpy object": lambda: {"model": {"a": np.array([{}, None], dtype=object)}},
        "sparse": lambda: {**state, first: torch.eye(3).to_sparse()},
        "meta": lambda: {k: v.to("meta") for k, v in state.items()},
        "quantised": lambda: {**state, first: torch.quantize_per_tensor(state[first], 0.1, 0,
        torch.quint8)},
    }  # fmt: skip
    return makers[kind]()


def _value(value: Tensor, arguments: Any) -> Tensor:
    fills = {"nan": float("nan"), "inf": float("inf"), "zeros": 0.0, "huge": 1e38}
    fill = fills.get(arguments["value"])
    return (value if fill is None else torch.full_like(value, fill)).to(
        getattr(torch, arguments["type"])
    )


TOWER_FILES = {
    "clip": ("clip/open_clip_config.json", "clip/open_clip_model.safetensors", "clip/bpe.txt.gz"),
    "sam": ("sam.json", "sam.safetensors"),
}


def _make_tower(rng: Random) -> Case:
    tower = rng.choice(("clip", "sam"))
    name = rng.choice(TOWER_FILES[tower])
    arguments: dict[str, Any] = {
        "tower": tower,
        "file": name,
        "edits": [],
        "content": None,
        "json": None,
    }
    if name.endswith(".json") and rng.random() < 0.7:
        from frozenseg.towers.loading import SHAPES

        arguments["json"] = damaged_json(rng, json.loads((SHAPES / name).read_text()))
    elif name.endswith(".gz") and rng.random() < 0.4:
        arguments["content"] = rng.choice(("", "a b\n", "x" * 9, "a b c\nd\n\n", "\x00 \x01\n"))
    elif rng.random() < 0.1:
        arguments["content"] = str(odd_value(rng)).encode("ascii", "replace").decode()
    else:
        size = SHAPES_SIZES.get(name) or 2000
        arguments["edits"] = edits(rng, size)
    return Case("tower_folders", arguments)


SHAPES_SIZES = {"clip/open_clip_model.safetensors": 4_000_000, "sam.safetensors": 2_300_000}


def _run_tower(arguments: Any, folder: Path) -> None:
    from frozenseg.towers.loading import SHAPES, load_clip, load_sam

    part = "clip" if arguments["tower"] == "clip" else ""
    shutil.copytree(SHAPES / part, folder / "tower" / part, dirs_exist_ok=True)
    path = folder / "tower" / arguments["file"]
    if arguments["json"] is not None:
        path.write_text(json.dumps(arguments["json"]))
    elif arguments["content"] is not None:
        content = arguments["content"].encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    else:
        edit_file(path, arguments["edits"])
    if arguments["tower"] == "clip":
        rows = load_clip(str(path.parent), "").encode_text(["a cat"])
        if not rows.isfinite().all():
            raise WrongResult("a tower whose embeddings are not finite was accepted")
    else:
        load_sam(str(path.parent), "")


ENTRIES = (
    Entry("safetensors_files", _make("safetensors"), _run, 1.5),
    Entry("pth_files", _make("pth"), _run, 1.5),
    Entry("tower_folders", _make_tower, _run_tower, 0.8),
)
