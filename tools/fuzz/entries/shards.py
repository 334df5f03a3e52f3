"""Weights in several files with an index that lists them."""

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save_file

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.entries.weights import expected, loaded_state, trained
from tools.fuzz.mutate import ODD_TEXTS, damaged_json, edit_file, edits, json_bytes

INDEX = "model.safetensors.index.json"
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
USES = (INDEX, "", PARTS[0], "**-00001-of-00002.safetensors", "[-00001-of-00002.bin")


def _places() -> dict[str, str]:
    return {name: PARTS[number % 2] for number, name in enumerate(trained())}


def _make(rng: Random) -> Case:
    content: Any = {"metadata": {"total_size": 1}, "weight_map": _places()}
    roll = rng.random()
    arguments: dict[str, Any] = {"use": rng.choice(USES[:3]), "edits": [], "missing": None}
    if roll < 0.15:
        arguments["edits"] = edits(rng, 2_000_000)
    elif roll < 0.25:
        arguments["missing"] = rng.choice(PARTS)
    elif roll < 0.35:
        arguments["use"] = rng.choice(USES)
    elif roll < 0.6:
        name = rng.choice((*ODD_TEXTS, "..", INDEX, "../secret.safetensors", "/dev/zero", 7, None))
        content["weight_map"][rng.choice(list(trained()))] = name
    else:
        content = damaged_json(rng, content, times=rng.choice((1, 2)))
        return Case("weight_shards", arguments, {f"folder/{INDEX}": json_bytes(rng, content)})
    return Case("weight_shards", arguments, {f"folder/{INDEX}": json.dumps(content).encode()})


def _run(arguments: Any, folder: Path) -> None:
    shards = folder / "folder"
    save_file({"secret": torch.ones(1)}, folder / "secret.safetensors")
    for part in PARTS:
        tensors = {name: trained()[name] for name, place in _places().items() if place == part}
        save_file(tensors, shards / part)
    if arguments["missing"]:
        (shards / arguments["missing"]).unlink()
    if arguments["edits"]:
        edit_file(shards / PARTS[1], arguments["edits"])
    state = loaded_state(shards / arguments["use"])
    if not all(value.isfinite().all() for value in state.values()):
        raise WrongResult("weights that are not finite were accepted")
    same = all(torch.equal(value, state[name]) for name, value in expected().items())
    if not arguments["edits"] and not same:  # other programs' files have no digest
        raise WrongResult("a changed index loads other weights")


ENTRIES = (Entry("weight_shards", _make, _run, 0.8),)
