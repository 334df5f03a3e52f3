"""Text rows and SAM masks, which the project keeps for itself: damage must not change results."""

import hashlib
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.mutate import edit_file, edits

REPLACEMENTS = (
    "ones", "zeros", "nan", "unit of other words", "narrow", "wide", "few", "many", "int32",
    "bfloat16", "three axes", "no axis", "other name",
    "nothing", "empty file", "folder", "text",
)  # fmt: skip
WIDTH = 128


def _make_rows(rng: Random) -> Case:
    if rng.random() < 0.3:
        return Case("text_rows", {"replace": rng.choice(REPLACEMENTS), "edits": []})
    return Case("text_rows", {"replace": None, "edits": edits(rng, 1200)})


def _encode(prompts: list[str]) -> Tensor:
    seeds = [int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4]) for prompt in prompts]
    return torch.stack(
        [torch.randn(WIDTH, generator=torch.Generator().manual_seed(s)) for s in seeds]
    )


def _run_rows(arguments: Any, folder: Path) -> None:
    from frozenseg.vocabulary import build_text_classifier, parse_vocabulary

    vocabulary = parse_vocabulary(["red circle", "sand, beach [stuff]"])

    def rows() -> Tensor:
        return build_text_classifier(
            _encode, vocabulary, cache_dir=folder / "text", tower_fingerprint="f"
        ).embeddings

    expected = rows().clone()
    (path,) = (path for path in (folder / "text").rglob("*") if path.suffix == ".safetensors")
    if arguments["replace"] is None:
        edit_file(path, arguments["edits"])
    else:
        _replace(path, arguments["replace"], len(expected))
    found = rows()
    if found.shape != expected.shape or not torch.equal(found.float(), expected):
        raise WrongResult("a damaged file of text rows is used")


def _replace(path: Path, kind: str, count: int) -> None:
    unit = torch.nn.functional.normalize(
        torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(3)), dim=-1
    )
    tensors = {
        "ones": torch.ones(count, WIDTH), "zeros": torch.zeros(count, WIDTH),
        "nan": unit * torch.nan, "unit of other words": unit,
        "narrow": unit[:, :64].contiguous(), "wide": torch.cat([unit, unit], dim=1),
        "few": unit[:1].contiguous(), "many": torch.cat([unit, unit]),
        "int32": torch.ones(count, WIDTH, dtype=torch.int32), "bfloat16": unit.bfloat16(),
        "three axes": unit[..., None].contiguous(),
        "no axis": torch.tensor(1.0), "other name": unit,
    }  # fmt: skip
    path.unlink()
    if kind in tensors:
        save_file({"other" if kind == "other name" else "embeddings": tensors[kind]}, path)
    elif kind == "nothing":
        save_file({}, path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("" if kind == "empty file" else "words")


NOTES = (
    "image",
    "sam",
    "low_res_size",
    "square",
    "stride",
    "image_size",
    "format",
    "sam_fingerprint",
    "max_masks",
)


def _make_masks(rng: Random) -> Case:
    if rng.random() < 0.35:
        kind = rng.choice(("inflate", "note", "note", "note", "boxes", "areas", "nan", "missing"))
        value = rng.choice(
            (None, -1, 0, [2, 3], [0, 0], [10**9, 10**9], "x", 10**30, [], {}, "delete")
        )
        return Case(
            "sam_masks", {"kind": kind, "note": rng.choice(NOTES), "value": value, "edits": []}
        )
    return Case("sam_masks", {"kind": None, "edits": edits(rng, 3000)})


def _run_masks(arguments: Any, folder: Path) -> None:
    from frozenseg.sam_masks.cache import CachedMasks, MaskCache
    from frozenseg.sam_masks.generator import MaskSettings

    image = torch.arange(3 * 24 * 32, dtype=torch.int32).remainder(251).byte().reshape(3, 24, 32)

    def masks() -> Any:
        cache = MaskCache(folder / "masks", sam_name="shapes", settings=MaskSettings())
        return CachedMasks(cache, lambda: (lambda _: _some_masks(), "fingerprint"))(image)

    expected = masks()
    (path,) = (path for path in (folder / "masks").rglob("*") if path.suffix == ".safetensors")
    if arguments["kind"] is None:
        edit_file(path, arguments["edits"])
    else:
        _change_masks(path, arguments)
    found = masks()
    same = torch.equal(found.low_res_logits, expected.low_res_logits) and all(
        torch.equal(getattr(found, name), getattr(expected, name))
        for name in ("predicted_iou", "stability", "boxes", "areas")
    )
    places = [(each.image_size, each.square, each.stride) for each in (found, expected)]
    if not same or tuple(places[0]) != tuple(places[1]):
        raise WrongResult("a damaged file of masks is used")


def _some_masks() -> Any:
    from frozenseg.sam_masks.generator import SamMasks

    draw = torch.Generator().manual_seed(1)
    return SamMasks(
        torch.randn(3, 12, 16, generator=draw) * 4,
        predicted_iou=torch.rand(3, generator=draw),
        stability=torch.rand(3, generator=draw),
        boxes=torch.tensor([[0, 0, 8, 8], [1, 1, 9, 9], [2, 2, 4, 4]]),
        areas=torch.tensor([64, 64, 4]),
        image_size=(24, 32),
        square=64,
        stride=4,
    )


def _change_masks(path: Path, arguments: Any) -> None:
    import json
    import zlib

    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        notes = dict(file.metadata())
    about = json.loads(notes.get("about", "{}"))
    kind = arguments["kind"]
    if kind == "inflate":
        bomb = zlib.compress(bytes(1 << 29), 9)
        tensors["logits"] = torch.frombuffer(bytearray(bomb), dtype=torch.uint8)
    elif kind == "note" and arguments["value"] == "delete":
        about.pop(arguments["note"], None)
    elif kind == "note":
        about[arguments["note"]] = arguments["value"]
    elif kind == "missing":
        tensors.pop("stability", None)
    elif kind == "nan":
        tensors["stability"] = torch.full((3,), torch.nan)
    elif kind in tensors:
        tensors[kind] = torch.full_like(tensors[kind], 1 << 40)
    save_file(tensors, path, {**notes, "about": json.dumps(about)})


ENTRIES = (
    Entry("text_rows", _make_rows, _run_rows, 2.0),
    Entry("sam_masks", _make_masks, _run_masks, 2.0),
)
