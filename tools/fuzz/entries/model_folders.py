"""Folders and repositories with a model, as ``save_pretrained`` writes them."""

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.entries.configuration import ODD_SETTINGS, SMALL, key_names, segment_small
from tools.fuzz.entries.weights import expected
from tools.fuzz.mutate import ODD_VALUES, damaged_bytes, damaged_json, edit_file, edits, json_bytes

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
CONFIGS = (CONFIG, "config.yaml")
WEIGHT_NAMES = (WEIGHTS, "model_final.safetensors", "weights.safetensors", "pytorch_model.bin")
# what a name of the folder is instead of a sound file
REPLACEMENTS = (
    "missing", "empty", "folder", "loop", "to zeros", "to a pipe", "outside", "dangling", "text",
    "pickle", "huge header", "no header",
)  # fmt: skip
LEAD_OUT = ("../secret.yaml", "/etc/passwd", "secret.yaml", "config.json", "https://x.example/a")
HUGE = (10**6, 10**9, 2**31, 2**63, 10**30, -1, 0, 1e308)
REVISIONS = ("main", "", "../..", "a b", "-x", "refs/pr/1", "\x1b[31m", "x" * 300, "a\0b")
REPOSITORIES = (
    "owner/name", "owner/../name", "a/b/c", "-/x", "owner/", "/name", "owner/name\n", "Owner/né",
    "owner/name.yaml", "~/x", "hf://owner/name", "https://huggingface.co/owner/name",
)  # fmt: skip


@cache
def saved_files() -> dict[str, bytes]:
    """The files of the miniature model, by name."""
    import frozenseg

    with tempfile.TemporaryDirectory() as folder:
        paths = frozenseg.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in paths}


def _make(rng: Random) -> Case:
    arguments: dict[str, Any] = {"replace": None, "edits": []}
    roll = rng.random()
    if roll < 0.45:
        return Case("model_folders", arguments, {f"model/{_config_name(rng)}": _config(rng)})
    if roll < 0.65:
        arguments["edits"] = edits(rng, len(saved_files()[WEIGHTS]))
    elif roll < 0.85:
        names = (CONFIG, WEIGHTS, CARD, *CONFIGS, *WEIGHT_NAMES)
        arguments["replace"] = [rng.choice(names), rng.choice(REPLACEMENTS)]
    else:
        names = (*REPOSITORIES, *(value for value in ODD_VALUES if _is_plain(value)))
        arguments |= {"name": rng.choice(names), "revision": rng.choice((None, *REVISIONS))}
    return Case("model_folders", arguments)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, list, dict))


def _config_name(rng: Random) -> str:
    return CONFIG if rng.random() < 0.9 else "config.yaml"


def _config(rng: Random) -> bytes:
    """A configuration with a wrong or hostile value, or one that is damaged."""
    content = json.loads(saved_files()[CONFIG])
    roll = rng.random()
    if roll < 0.35:
        content = damaged_json(rng, content, times=rng.choice((1, 1, 3)))
    elif roll < 0.75:
        key = rng.choice([key for key in key_names() if key.startswith(("MODEL.", "INPUT."))])
        _set(content, key, rng.choice((*HUGE, *LEAD_OUT, *ODD_SETTINGS)))
    elif roll < 0.85:
        content["_BASE_"] = rng.choice(LEAD_OUT)
    else:
        return damaged_bytes(rng, saved_files()[CONFIG])
    return json_bytes(rng, content)


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
    content[last] = value


def _run(arguments: Any, folder: Path) -> None:
    import frozenseg

    if "name" in arguments:
        frozenseg.from_pretrained(arguments["name"], revision=arguments["revision"])
        return
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (folder / "secret.yaml").write_text("OUTPUT_DIR: secret\n")
    for name, content in saved_files().items():
        if not (model / name).exists():
            (model / name).write_bytes(content)
    is_damaged = bool(arguments["edits"]) and edit_file(model / WEIGHTS, arguments["edits"])
    if arguments["replace"]:
        _replace(model, *arguments["replace"])
    before = _contents(folder)
    segmenter: Any = frozenseg.load(model, overrides=SMALL)
    _check(segmenter, folder, before, is_damaged=is_damaged)


def _check(segmenter: Any, folder: Path, before: dict[str, bytes], *, is_damaged: bool) -> None:
    state = segmenter.model.state_dict()
    if not all(value.isfinite().all() for value in state.values()):
        raise WrongResult("weights that are not finite were accepted")
    same = all(torch.equal(value, expected()[name]) for name, value in state.items())
    if is_damaged and not same:
        raise WrongResult("damaged weights of a folder were accepted")
    segment_small(segmenter, segmenter.default_task)
    if _contents(folder) != before:
        raise WrongResult("loading a model writes to its folder", kind="escape")


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _replace(model: Path, name: str, kind: str) -> None:
    path = model / name
    path.unlink(missing_ok=True)
    contents = {
        "empty": b"",
        "text": b"no model\n",
        "pickle": b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
        "huge header": (1 << 62).to_bytes(8, "little") + b"{}",
        "no header": bytes(8) + b"{}",
    }
    links = {
        "loop": path,
        "to zeros": "/dev/zero",
        "outside": "../secret.yaml",
        "dangling": "nowhere",
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind in links:
        path.symlink_to(links[kind])
    elif kind == "to a pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()


ENTRIES = (Entry("model_folders", _make, _run, 1.5),)
