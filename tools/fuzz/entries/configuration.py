"""Configuration files, values of keys, devices, and models built from odd values."""

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.mutate import LONG, ODD_TEXTS, damaged_bytes

ODD_FILES = (
    b"", b"# x\n", b"---\n", b"null\n", b"[]\n", b"7\n", b"_BASE_: case.yaml\n", b"_BASE_: [a]\n",
    b"_BASE_: 1\n",
    b"_BASE_: null\n", b"_BASE_: other.yaml\nSEED: 1\n", b"_BASE_: .\n", b"_BASE_: 'a\\0b'\n",
    b"_BASE_: ~nouser/x.yaml\n",
    b"_BASE_: https://example.com/x.yaml\n", b"SEED: 2026-11-27\n", b"OUTPUT_DIR: 2026-11-27\n",
    b"null: 1\n", b"1: 2\n",
    b"true: 2\n", b"1.5: 2\n", b"OUTPUT_DIR: caf\xe9\n", b"[" * 5000, b"{" * 5000,
    b"SEED: 1\n---\nSEED: 2\n",
    b"MODEL: &m\n  A: *m\n", b"SEED: !!python/object/apply:os.getpid []\n", b"SEED: !x 1\n",
    b"\xff\xfeS\0", b"\0", b"SEED: \x1b[31m\n",
    b"a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nSEED: *c\n", b"MODEL: 1\n", b"MODEL: []\n",
    b"MODEL: null\n", b"? [a]\n: 1\n", b"? {a: 1}\n: 1\n",
    b"SEED: 1\nSEED: 2\n", b"MODEL.DEVICE: cpu\n", b"<<: 1\n", b"<<: [1]\n", b"SEED: 1_000\n",
    b"SEED: 0x1F\n", b"SEED: 1:30\n",
    b"\t- a\n", b"%YAML 9.9\n---\nSEED: 1\n", b"SEED: *missing\n", b"&a SEED: 1\n", b"a: [\n",
    b"'\n", b"? ? ?\n", b"SEED: .nan\n",
    b"INPUT: {FORMAT: [RGB]}\n", b"DATASETS: {TRAIN: shapes_train}\n", b"SEED: " + b"9" * 5000,
    b"'" + b"k" * 5000 + b"': 1\n",
)  # fmt: skip
ALIASES = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)
)
ODD_YAML = (
    "null", "true", "''", "[]", "{}", "-1", "0", "1e9", ".nan", ".inf", "[1, 2]", "{a: 1}",
    "2026-11-27", "'x'", "1e400",
    "!!binary aGk=", "!!set {a, b}", "!!timestamp 2026-01-01", "!!python/name:os.system ''",
    "[[1], [2]]", "9999999999999999999999",
)  # fmt: skip


@cache
def key_names() -> tuple[str, ...]:
    from frozenseg.config import known_keys

    return tuple(known_keys())


def _make_file(rng: Random) -> Case:
    roll = rng.random()
    if roll < 0.35:
        content = rng.choice((*ODD_FILES, ALIASES))
    elif roll < 0.7:
        content = _file_of_keys(rng).encode("utf-8", "surrogatepass")
    else:
        root = Path(__file__).resolve().parents[3] / "configs"
        content = damaged_bytes(rng, rng.choice(sorted(root.rglob("*.yaml"))).read_bytes())
    name = rng.choice(("case.yaml", "case.yaml", "case", "[red]case.yaml"))
    files = {name: content, "other.yaml": b"_BASE_: case.yaml\n"}
    return Case("config_files", {"name": name, "how": rng.choice(("file", "over"))}, files)


def _file_of_keys(rng: Random) -> str:
    """Known keys, nested as in a file, with odd values."""
    tree: dict[str, Any] = {}
    for _ in range(rng.choice((1, 1, 3))):
        parts, node = rng.choice(key_names()).split("."), tree
        if rng.random() < 0.15:
            parts = parts[: rng.randrange(len(parts)) + 1]
        for part in parts[:-1]:
            node = node.setdefault(part, {}) if isinstance(node.get(part, {}), dict) else tree
        node[parts[-1]] = rng.choice(ODD_YAML)
    return _yaml(tree)


def _yaml(tree: dict[str, Any], indent: int = 0) -> str:
    lines = []
    for key, value in tree.items():
        nested = isinstance(value, dict)
        lines.append(
            " " * indent
            + f"{key}:"
            + ("\n" + _yaml(value, indent + 2) if nested else f" {value}\n")
        )
    return "".join(lines)


def _run_file(arguments: Any, folder: Path) -> None:
    from frozenseg.config import load_config

    path = folder / arguments["name"]
    cfg = load_config(path) if arguments["how"] == "file" else load_config(None, over=[path])
    cfg.dump()


ODD_SETTINGS = (
    "0", "-1", "1", "2", "3", "-5", "1e9", "-1e9", "1e-30", "nan", "inf", "None", "True", "''",
    "()", "(0,)", "(-1,)", "[]", "{}",
    "(1,2,3)", "(0,0,0)", "(1e9,1e9,1e9)", "('a',)", "(None,)", "abc", "XYZ", "0.5", "1.5",
    "99999999999", "1000000", "(1,1,1)",
    "(99,)", "((1,),)", "__import__('os')", "1+1", "2026-11-27", *ODD_TEXTS,
)  # fmt: skip


def _pairs(rng: Random) -> list[str]:
    pairs: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        key = (
            rng.choice(key_names())
            if rng.random() < 0.95
            else rng.choice((*ODD_TEXTS, "MODEL", "MODEL.", ".", "A.B.C"))
        )
        value = str(rng.randrange(-9, 300)) if rng.random() < 0.2 else rng.choice(ODD_SETTINGS)
        pairs += [key, value]
    return pairs if rng.random() < 0.97 else pairs[:-1]


def _make_values(rng: Random) -> Case:
    return Case("config_values", {"pairs": _pairs(rng)})


def _run_values(arguments: Any, _: Path) -> None:
    from frozenseg.config import load_config

    load_config("shapes/frozenseg.yaml", arguments["pairs"]).dump()


SMALL = (
    "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "128",
    "MODEL.MASK_ENSEMBLE.POINTS_PER_SIDE", "2",
    "TEST.AUG.MIN_SIZES", "(64,)", "TEST.AUG.MAX_SIZE", "96",
)  # fmt: skip
USED = ("MODEL.", "INPUT.", "TEST.", "DATASETS.")  # keys that inference reads
TASKS = ("panoptic", "semantic", "instance")


def _make_use(rng: Random) -> Case:
    switches = [
        [],
        [],
        ["MODEL.MASK_ENSEMBLE.ENABLED", "True"],
        ["TEST.AUG.ENABLED", "True"],
        ["MODEL.META_ARCHITECTURE", "OnlySAM"],
    ]
    keys = [key for key in key_names() if key.startswith(USED)]
    pairs = [
        part
        for _ in range(rng.choice((1, 1, 2)))
        for part in (rng.choice(keys), rng.choice(ODD_SETTINGS))
    ]
    return Case("config_use", {"pairs": [*rng.choice(switches), *pairs], "task": rng.choice(TASKS)})


def _run_use(arguments: Any, _: Path) -> None:
    import frozenseg

    segmenter = frozenseg.load("shapes", overrides=[*SMALL, *arguments["pairs"]])
    segment_small(segmenter, arguments["task"])


def segment_small(segmenter: Any, task: str) -> None:
    """Segments a small image; numbers that are not finite are no result."""
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    found = segmenter(image, ["red circle", "sand, beach [stuff]"], task=task)
    found.to_coco()
    for segment in found.segments:
        if task == "instance" and not 0 <= segment.score <= 1:
            raise WrongResult(f"a score is {segment.score}")
    semantic = getattr(getattr(found, "_result", None), "semantic", None)
    if semantic is not None and not torch.as_tensor(semantic).isfinite().all():
        raise WrongResult("the result has numbers that are not finite")


DEVICES = (
    "cuda", "cuda:0", "cuda:99", "mps", "meta", "cpu:0", "cpu:7", "xla", "hpu", "ipu",
    "privateuseone", "vulkan", "mkldnn", "opengl", "xpu",
    "CPU", "gpu", "cuda:", "cuda:-1", "cuda:a", "", " ", "auto", "0", "None",
    "cuda:99999999999999999999", "mtia", "fpga", "ve", "lazy",
    "auto:0", "cpu ", "cpu\0", "x" * LONG,
)  # fmt: skip


def _make_device(rng: Random) -> Case:
    device = rng.choice(DEVICES) if rng.random() < 0.8 else rng.choice((*ODD_TEXTS, *ODD_SETTINGS))
    return Case("devices", {"device": device, "by_key": rng.random() < 0.3})


def _run_device(arguments: Any, _: Path) -> None:
    import frozenseg

    device = arguments["device"]
    pairs = [*SMALL[2:], *(["MODEL.DEVICE", device] if arguments["by_key"] else [])]
    segmenter = frozenseg.load(
        "shapes", device=None if arguments["by_key"] else device, overrides=pairs
    )
    segment_small(segmenter, "panoptic")


ENTRIES = (
    Entry("config_files", _make_file, _run_file, 2.0),
    Entry("config_values", _make_values, _run_values, 3.0),
    Entry("config_use", _make_use, _run_use, 1.2),
    Entry("devices", _make_device, _run_device, 0.3),
)
