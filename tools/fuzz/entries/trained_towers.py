"""Light weight files, which hold a trained CLIP as the difference to a published one."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.mutate import ODD_TEXTS, edit_file, edits

OVERRIDES = (
    "MODEL.META_ARCHITECTURE", "FCCLIP", "MODEL.WEIGHTS_TOWERS", "use",
    "MODEL.FC_CLIP.CLIP_MODEL_NAME", "shapes", "MODEL.FC_CLIP.CLIP_PRETRAINED_WEIGHTS", "",
    "MODEL.FC_CLIP.EMBED_DIM", "128",
)  # fmt: skip
STEM = "visual.trunk.stem.0.weight"
CHANGES = (
    "other base", "no base", "unknown tensor", "other shape", "nan", "integers", "all of CLIP",
    "no CLIP", "no head", "odd note",
)  # fmt: skip
SOUND = ("all of CLIP", "no CLIP", "odd note")  # other files, but complete ones


@cache
def light_file() -> bytes:
    """A light file of a miniature FC-CLIP with random weights, whose CLIP was changed."""
    from frozenseg import model_config
    from frozenseg.builders.model import build_model
    from frozenseg.builders.weight_conversion import to_own_layout

    cfg = model_config("shapes", overrides=OVERRIDES)
    torch.manual_seed(0)
    proposer: Any = build_model(cfg).proposer
    changed = {**_clip(), f"clip.model.{STEM}": _clip()[f"clip.model.{STEM}"] + 1}
    with tempfile.TemporaryDirectory() as folder:
        whole, light = Path(folder) / "whole.safetensors", Path(folder) / "light.safetensors"
        save_file({**proposer.trainable_state(), **changed}, whole)
        to_own_layout(whole, light, cfg, light=True)
        return light.read_bytes()


@cache
def _clip() -> dict[str, Tensor]:
    from frozenseg.checkpoint.weights import tower_tensors
    from frozenseg.towers.loading import load_clip

    state = load_clip("shapes", "").model.state_dict()
    return {name: each.clone() for name, each in tower_tensors({"clip": state}).items()}


@cache
def _expected() -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "light.safetensors"
        path.write_bytes(light_file())
        return _state(path)


def _state(path: Path) -> dict[str, Tensor]:
    import frozenseg

    segmenter: Any = frozenseg.load("shapes", weights=path, device="cpu", overrides=OVERRIDES)
    return {name: each.clone() for name, each in segmenter.model.state_dict().items()}


def _make(rng: Random) -> Case:
    if rng.random() < 0.6:
        return Case("light_weights", {"change": None, "edits": edits(rng, len(light_file()))})
    change, note = rng.choice(CHANGES), rng.choice(ODD_TEXTS).encode("ascii", "replace").decode()
    return Case("light_weights", {"change": change, "note": note, "edits": []})


def _run(arguments: Any, folder: Path) -> None:
    path = folder / "light.safetensors"
    path.write_bytes(light_file())
    if arguments["change"] is None:
        if not edit_file(path, arguments["edits"]):
            return
    else:
        _change(path, arguments["change"], arguments["note"])
    state = _state(path)
    if not all(value.isfinite().all() for value in state.values()):
        raise WrongResult("weights that are not finite were accepted")
    same = all(torch.equal(value, state[name]) for name, value in _expected().items())
    if arguments["change"] not in SOUND and not same:
        raise WrongResult("a light file that was changed is used")


def _change(path: Path, kind: str, note: str) -> None:
    """Writes another content with its right digest, as somebody does who means it."""
    from frozenseg.io.digest import DIGEST, digest_of

    with safe_open(path, "pt") as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in list(file.keys())}
        notes = {name: text for name, text in file.metadata().items() if name != DIGEST}
    stem, head = f"clip.model.{STEM}", next(name for name in tensors if "clip." not in name)
    changes: dict[str, Callable[[], object]] = {
        "other base": lambda: notes.update(clip_base="0" * 16),
        "no base": lambda: notes.pop("clip_base"),
        "odd note": lambda: notes.update({"trained_towers": note, "clip": note}),
        "unknown tensor": lambda: tensors.update({"clip.model.visual.more": torch.ones(2)}),
        "other shape": lambda: tensors.update({stem: torch.ones(3)}),
        "nan": lambda: tensors.update({stem: tensors[stem] * torch.nan}),
        "integers": lambda: tensors.update({stem: tensors[stem].int()}),
        "all of CLIP": lambda: tensors.update(_clip()),
        "no CLIP": lambda: tensors.pop(stem),
        "no head": lambda: tensors.pop(head),
    }
    changes[kind]()
    save_file(tensors, path, {**notes, DIGEST: digest_of(tensors, notes)})


ENTRIES = (Entry("light_weights", _make, _run, 0.8),)
