"""What calls and commands read beside their main input: options, lists, pipes, stored results."""

import io
import json
import sys
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.entries.commands import QUICK_SET, run_command
from tools.fuzz.entries.configuration import SMALL
from tools.fuzz.entries.images import encoded, image_bytes
from tools.fuzz.mutate import ODD_TEXTS, damaged_bytes, edit_file, edits, odd_value

OPTIONS = ("task", "bgr", "alpha", "beta", "threshold", "templates")
TEMPLATES = (
    ["a photo of a {}."], ["{}"], [], "{}", ["{} {}"], ["{0}"], ["{"], [""], [None], {}, [["{}"]],
    ["{}" + "x" * 3000], ["\x1b[31m{}"], ["\ud800{}"], ["{}\0"], {"{}": 1}, 7,
)  # fmt: skip


def _make_call(rng: Random) -> Case:
    options: dict[str, Any] = {}
    for name in rng.sample(OPTIONS, rng.choice((1, 1, 2, 3))):
        sound = {"task": "instance", "bgr": True, "templates": ["a {}."]}.get(name, 0.5)
        odd = (
            rng.choice(TEMPLATES) if name == "templates" and rng.random() < 0.8 else odd_value(rng)
        )
        options[name] = sound if rng.random() < 0.3 else odd
    return Case("calls", {"options": options, "images": rng.choice((None, None, 0, 2))})


def _run_call(arguments: Any, _: Path) -> None:
    import frozenseg

    segmenter = frozenseg.load("shapes", overrides=SMALL)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    count, options = arguments["images"], arguments["options"]
    found: Any
    if count is None:
        found = [segmenter(image, "red circle; sand [stuff]", **options)]
    else:
        found = segmenter([image] * count, "red circle; sand [stuff]", **options)
    for each in found:
        json.dumps(each.to_coco(rle=True), allow_nan=False)
        each.draw()


ODD_LINES = (
    "missing.png", "folder", ".", "", " a.png", "a.png ", "*.png", "[", "**/*", "\0", "x" * 5000,
    "~nouser/a.png", "/etc/hostname", "\x1b[31m.png", "-", "a.png\r", "\u202egnp.a", "/dev/zero",
)  # fmt: skip


def _make_list(rng: Random) -> Case:
    lines = [rng.choice(("a.png", rng.choice(ODD_LINES))) for _ in range(rng.choice((0, 1, 2, 4)))]
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    content = damaged_bytes(rng, content) if rng.random() < 0.3 else content
    files = {"list.txt": content, "a.png": encoded(rng), "folder/b.png": encoded(rng)}
    return Case("image_lists", {"pipe": rng.random() < 0.4, "items": len(lines) + 3}, files)


def _run_list(arguments: Any, folder: Path) -> None:
    from frozenseg.cli.image_files import (
        find_images,
        listed_paths,
        output_stems,
        refuse_to_overwrite,
    )

    content = (folder / "list.txt").read_bytes()
    with patch.object(sys, "stdin", _pipe(content)):
        paths = listed_paths(Path("-" if arguments["pipe"] else "list.txt"))
        stems = output_stems(find_images(paths, recursive=True))
    refuse_to_overwrite(stems, folder / "output")
    if any("/" in stem or stem in ("", "..") for stem in stems.values()):
        raise WrongResult("a result would be outside its folder", kind="escape")


def _make_pipe(rng: Random) -> Case:
    kind = rng.choice(("image", "image", "image", "closed", "text"))
    content = image_bytes(rng) if rng.random() < 0.7 else encoded(rng)
    content = rng.choice(ODD_TEXTS).encode("utf-8", "replace") if kind == "text" else content
    return Case("standard_input", {"closed": kind == "closed"}, {"pipe": content})


def _run_pipe(arguments: Any, folder: Path) -> None:
    pipe = None if arguments["closed"] else _pipe((folder / "pipe").read_bytes())
    with patch.object(sys, "stdin", pipe):
        run_command(["segment", "-", "-w", "red circle", *QUICK_SET])


def _pipe(content: bytes) -> Any:
    """Standard input as Python has it: text that is decoded when it is read."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


NAMES = ("fcclip-rn50", "mask-adapter-fcclip", "ovseg-large", "no-such-name", "\x1b[31m", "")
RECORDS = ("0" * 64, "x", "", "\x1b[31m", "0" * 63 + "g", "9" * 5000)


def _make_published(rng: Random) -> Case:
    content = rng.choice((b"", b"<html>", b"w" * (1 << 20), b"PK\3\4" + bytes(1 << 20)))
    files = {} if rng.random() < 0.1 else {"file.pth": content}
    arguments = {
        "name": rng.choice(NAMES),
        "record": rng.choice((None, *RECORDS)),
        "command": rng.choice(("check", "get")),
        "file": rng.choice(("file.pth", "file.pth", "folder", "missing", "x" * 5000)),
    }
    return Case("published_weights", arguments, files)


def _run_published(arguments: Any, folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "weights").mkdir()
    name, record = arguments["name"], arguments["record"]
    if record is not None and name in NAMES[:3]:
        (folder / "weights" / f"{name}.sha256").write_text(record)
    with patch.dict("os.environ", {"FROZENSEG_CACHE": str(folder)}):
        status = run_command(["weights", arguments["command"], name, "--file", arguments["file"]])
    if status == 0:
        raise WrongResult("a file that holds no weights was accepted")


METRICS = {"panoptic/PQ": 41.25, "semantic/mIoU": 30.5, "instance/AP": float("nan")}


def _make_results(rng: Random) -> Case:
    kind = rng.choice(("edits", "edits", "edits", "empty", "list", "text", "folder"))
    return Case("stored_results", {"kind": kind, "edits": edits(rng, 150)})


def _run_results(arguments: Any, folder: Path) -> None:
    """``frozenseg reproduce`` measures again what was damaged."""
    from frozenseg.cli.reproduction import measuring
    from frozenseg.config import load_config

    measured = []

    def evaluate(*_: Any) -> Any:
        measured.append(1)
        return SimpleNamespace(metrics=dict(METRICS), per_class={}, skipped=())

    def result() -> str:
        with (
            patch.object(measuring, "evaluate_dataset", evaluate),
            patch.object(measuring, "build_segmenter", lambda _: None),
            patch.object(measuring, "save_report", lambda *_: None),
        ):
            found = measuring.measured(load_config(), "shapes_val", folder / "results")
        return json.dumps(found, sort_keys=True)

    expected = result()
    (path,) = (folder / "results").rglob("*.json")
    changed = _damage(path, arguments)
    if result() != expected or len(measured) != 1 + changed:
        raise WrongResult("a damaged result is used, or a sound one is not")


def _damage(path: Path, arguments: Any) -> bool:
    if arguments["kind"] == "edits":
        before = json.loads(path.read_bytes())
        edit_file(path, arguments["edits"])
        try:
            return json.dumps(json.loads(path.read_bytes())) != json.dumps(before)
        except ValueError:
            return True
    path.unlink()
    if arguments["kind"] == "folder":
        path.mkdir()
    else:
        path.write_text({"empty": "", "list": "[]", "text": "no result"}[arguments["kind"]])
    return True


ENTRIES = (
    Entry("calls", _make_call, _run_call, 1.0),
    Entry("image_lists", _make_list, _run_list, 0.8),
    Entry("standard_input", _make_pipe, _run_pipe, 0.5),
    Entry("published_weights", _make_published, _run_published, 0.5),
    Entry("stored_results", _make_results, _run_results, 0.5),
)
