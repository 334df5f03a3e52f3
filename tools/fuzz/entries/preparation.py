"""The preparation scripts of ``datasets/`` and the matrices of PASCAL-Context."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from scipy.io import savemat

from tests.fixtures.datasets import script
from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.entries.annotations import base_files, overlay
from tools.fuzz.entries.images import image_bytes
from tools.fuzz.mutate import ODD_TEXTS, damaged_bytes, damaged_json, json_bytes


class Script(NamedTuple):
    """A preparation script, what it reads, and a data set that it makes."""

    writer: str
    dataset: str
    output: str  # a folder that it fills


SCRIPTS = {
    "prepare_coco": Script(
        "coco", "openvocab_coco_2017_val_panoptic_with_sem_seg", "coco/panoptic_semseg_val2017"
    ),
    "prepare_ade20k": Script(
        "ade20k",
        "openvocab_ade20k_panoptic_val",
        "ADEChallengeData2016/annotations_detectron2/validation",
    ),
    "prepare_ade20k_full": Script(
        "ade20k_full",
        "openvocab_ade20k_full_sem_seg_val",
        "ADE20K_2021_17_01/annotations_detectron2/validation",
    ),
    "prepare_pascal_voc": Script(
        "pascal_voc",
        "openvocab_pascal21_sem_seg_val",
        "pascal_voc_d2/annotations_pascal21/validation",
    ),
    "prepare_pascal_context": Script(
        "pascal_context",
        "openvocab_pascal_ctx459_sem_seg_val",
        "pascal_ctx_d2/annotations_ctx459/validation",
    ),
}
LEFTOVERS = (".l52751tf.png", ".abc12345.tif", ".x.json", ".partial-a", "Thumbs.db")
ROOT = "root"


def _make(rng: Random) -> Case:
    name = rng.choice(tuple(SCRIPTS))
    source, arguments = SCRIPTS[name], {"script": name, "leftovers": []}
    if rng.random() < 0.1:
        return Case("preparation", {**arguments, "leftovers": [rng.choice(LEFTOVERS)]})
    files = base_files(source.writer)
    path = rng.choice([path for path in files if _is_read(path, name)])
    content = _damaged(rng, path, files[path])
    return Case("preparation", arguments, {f"{ROOT}/{path}": content})


def _is_read(path: str, name: str) -> bool:
    """Returns True if the script opens this file of its data set."""
    if name == "prepare_coco":
        return "panoptic" in path
    return not path.endswith("_parts_1.png") and not (
        name == "prepare_ade20k" and "images/" in path
    )


def _damaged(rng: Random, path: str, content: bytes) -> bytes:
    if path.endswith(".json"):
        value = json.loads(content)
        if rng.random() < 0.25:  # names of files, which must not lead out of the folder
            return json.dumps(_renamed(rng, value)).encode()
        return json_bytes(rng, damaged_json(rng, value, times=rng.choice((1, 1, 3))))
    if path.endswith((".png", ".jpg")):
        return image_bytes(rng)
    if path.endswith(".txt"):
        lines = content.decode().split()
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(ODD_TEXTS))
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    return damaged_bytes(rng, content)


def _renamed(rng: Random, value: Any) -> Any:
    name = rng.choice(
        (
            "../../../victim.png",
            "../../victim.png",
            "/victim.png",
            "a/../../../../victim.png",
            "..",
            "link/victim.png",
            "a\0.png",
        )
    )
    rows = [row for rows in value.values() for row in rows if "file_name" in row]
    rng.choice(rows)["file_name"] = name
    return value


def _run(arguments: Any, folder: Path) -> None:
    source, root = SCRIPTS[arguments["script"]], folder / ROOT
    root.mkdir(exist_ok=True)
    overlay(root, source.writer)
    (folder / "link").mkdir()
    outside = {folder / "victim.png": b"victim", folder / "link/victim.png": b"victim"}
    for path, content in outside.items():
        path.write_bytes(content)
    if any(b"link/victim" in path.read_bytes() for path in root.rglob("*.json")):
        (root / source.output).mkdir(parents=True, exist_ok=True)
        (root / source.output / "link").symlink_to(folder / "link")
    for target in arguments["leftovers"]:
        path = root / source.output / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    status = run_script(arguments["script"], ["--root", str(root), "--processes", "1"])
    strays = set(folder.iterdir()) - {root, folder / "link", folder / "victim.png"}
    if strays or any(path.read_bytes() != content for path, content in outside.items()):
        raise WrongResult("a file outside the data root was written", kind="escape")
    _check_result(source, root, status, arguments["leftovers"])


def run_script(name: str, arguments: Sequence[str]) -> int:
    """Runs a script; the exit status, 0 or 2, with one sentence on standard error for 2."""
    said = io.StringIO()
    with redirect_stderr(said):
        status = _script(name).main(arguments)
    check_status(status, said.getvalue())
    return status


@cache
def _script(name: str) -> ModuleType:
    return script(name)


USAGE_ERRORS = ("Usage:", "usage:", "─ Error ─")  # of argparse and typer


def check_status(status: int, said: str, *, items: int = 1, checks: bool = False) -> None:
    """Raises ``WrongResult`` unless a command ended with 0, or with 2 and one sentence.

    A command that continues after a faulty item may print one sentence for each of ``items``; one
    that ``checks`` ends with 1 if it found problems.
    """
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    if "Traceback (most recent call last)" in said:
        raise WrongResult("a traceback was printed")
    if status not in ((0, 1, 2) if checks else (0, 2)):
        raise WrongResult(f"the exit status is {status}")
    told = any(mark in said for mark in USAGE_ERRORS)
    if status == 2 and not 1 <= len(errors) <= items and not told:
        raise WrongResult(f"{len(errors)} lines of error with exit status 2")
    controls = {c for c in said if ord(c) < 32 and c not in "\n\r\t"} | ({"\x7f"} & set(said))
    if controls:
        raise WrongResult("control characters of the input reach the terminal")


def _check_result(source: Script, root: Path, status: int, leftovers: Sequence[str]) -> None:
    """Checks that prepared data opens and that leftovers of a killed run are not samples."""
    from frozenseg.data.datasets import open_dataset
    from frozenseg.errors import UserError

    if status != 0:
        return
    try:
        samples = open_dataset(source.dataset, root=root)
        for index in range(len(samples)):
            samples[index]
    except UserError as error:
        if leftovers:
            raise WrongResult(f"a leftover of a killed run breaks the data set: {error}") from error


ODD_ARRAYS = (
    np.zeros((2, 3)), np.ones((2, 3, 4)), np.array([[-1, 2, 3], [1, 1, 1]]), np.array([[1.5, np.nan,
    np.inf]] * 2),
    np.array("text"), np.array([[1 + 2j] * 3] * 2), np.zeros((0, 0)), np.array([["a", "b"]],
    dtype=object),
    np.array([[70000] * 3] * 2), np.array([[True] * 3] * 2), np.array(7), np.zeros((2, 3),
    dtype=np.int8),
)  # fmt: skip


def _make_matrix(rng: Random) -> Case:
    base = base_files("pascal_context")
    path = rng.choice([path for path in base if path.endswith(".mat") and "000002" in path])
    if rng.random() < 0.6:
        content = damaged_bytes(rng, base[path])
    else:
        array = rng.choice(ODD_ARRAYS)
        value = rng.choice((array, {"a": array}, [array, array]))
        file = io.BytesIO()
        options = {"format": rng.choice(("4", "5")), "do_compression": rng.random() < 0.5}
        try:
            savemat(file, {rng.choice(("LabelMap", "LabelMap", "labelmap")): value}, **options)
        except (TypeError, ValueError):  # not in format 4
            file = io.BytesIO()
            savemat(file, {"LabelMap": value})
        content = file.getvalue()
    return Case(
        "matrices",
        {"script": "prepare_pascal_context", "leftovers": []},
        {f"{ROOT}/{path}": content},
    )


ENTRIES = (
    Entry("preparation", _make, _run, 2.0),
    Entry("matrices", _make_matrix, _run, 0.7),
)
