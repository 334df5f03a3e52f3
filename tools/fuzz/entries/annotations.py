"""Annotation files in COCO's panoptic and instance formats, LVIS, and run lengths."""

import json
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from frozenseg.data.specs import Task
from tests.fixtures.datasets import WRITERS
from tools.fuzz.case import Case, Entry
from tools.fuzz.entries.images import image_bytes
from tools.fuzz.mutate import damaged_json, json_bytes, odd_value


class Layout(NamedTuple):
    """A small data set: who writes it, its registered name, the task, its annotation file."""

    writer: str
    dataset: str
    task: Task
    json: str
    maps: str = ""


COCO = "openvocab_coco_2017_val_panoptic_with_sem_seg"
PANOPTIC = {
    "coco": Layout("coco", COCO, "panoptic", "coco/annotations/panoptic_val2017.json",
    "coco/panoptic_val2017"),
    "mapillary": Layout(
        "mapillary_vistas", "openvocab_mapillary_vistas_panoptic_val", "panoptic",
        "mapillary_vistas/validation/panoptic/panoptic_2018.json",
        "mapillary_vistas/validation/panoptic",
    ),
    "bdd": Layout(
        "bdd100k", "bdd10k_40_panoptic_val", "panoptic", "bdd100k/jsons/pan_seg_val_cocofmt.json",
        "bdd100k/jsons/pan_seg/masks/val",
    ),
}  # fmt: skip
INSTANCES = Layout("coco", COCO, "instance", "coco/annotations/instances_val2017.json")
LVIS = Layout("lvis", "openvocab_lvis_v1_val", "instance", "lvis/lvis_v1_val.json")
LAYOUTS = {**PANOPTIC, "instances": INSTANCES, "lvis": LVIS}


@cache
def base_files(writer: str) -> dict[str, bytes]:
    """The files of an undamaged data set, by path."""
    with tempfile.TemporaryDirectory() as folder:
        WRITERS[writer](Path(folder))
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _make(entry: str, names: tuple[str, ...]):
    def make(rng: Random) -> Case:
        name = rng.choice(names)
        layout = LAYOUTS[name]
        files: dict[str, bytes] = {}
        if layout.maps and rng.random() < 0.15:
            maps = [
                path for path in base_files(layout.writer) if Path(path).parent == Path(layout.maps)
            ]
            files[rng.choice([path for path in maps if path.endswith(".png")])] = image_bytes(rng)
        else:
            content = json.loads(base_files(layout.writer)[layout.json])
            damaged = damaged_json(rng, content, times=rng.choice((1, 1, 1, 2, 5)))
            files[layout.json] = json_bytes(rng, damaged)
        return Case(entry, {"layout": name, "skip_bad": rng.random() < 0.2}, files)

    return make


def _run(arguments: Any, folder: Path) -> None:
    layout = LAYOUTS[arguments["layout"]]
    overlay(folder, layout.writer)
    _read_all(layout, folder, skip_bad=arguments.get("skip_bad", False))


def overlay(folder: Path, writer: str) -> None:
    """Adds the files of an undamaged data set that the case does not replace."""
    for name, content in base_files(writer).items():
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _read_all(layout: Layout, folder: Path, *, skip_bad: bool = False) -> None:
    from frozenseg.data.datasets import open_dataset

    samples = open_dataset(layout.dataset, root=folder, tasks=(layout.task,), skip_bad=skip_bad)
    for index in range(len(samples)):
        samples[index]


SIZES = (
    [4, 6],
    [6, 4],
    [0, 0],
    [-1, 6],
    [4],
    [1 << 31, 6],
    [65536, 65536],
    [4.0, 6],
    ["4", "6"],
    None,
    [4, 6, 1],
)


def _make_rle(rng: Random) -> Case:
    """Run lengths and polygons that pycocotools itself does not check."""
    kind = rng.choice(("counts", "text", "polygon", "odd"))
    size = rng.choice(SIZES) if rng.random() < 0.4 else [4, 6]
    runs = [
        rng.choice((0, 1, 2, 24, 25, 100, 2**31, 2**32, -1, 10**12))
        for _ in range(rng.randrange(9))
    ]
    texts = (
        "2222@",
        "",
        "0",
        "~" * 20,
        "o" * 2000,
        "PPP",
        "\x00",
        "é",
        "1" * 50,
        "_]?2]o",
        "`" * 9,
    )
    segmentation: Any
    if kind == "counts":
        segmentation = {
            "size": size,
            "counts": damaged_json(rng, runs) if rng.random() < 0.3 else runs,
        }
    elif kind == "text":
        letters = "".join(chr(rng.randrange(48, 112)) for _ in range(rng.randrange(30)))
        segmentation = {"size": size, "counts": rng.choice((*texts, letters, letters))}
    elif kind == "polygon":
        values = (0, 1, 3.5, 6, -5, 1e5, 1e9, 1e300, float("nan"), float("inf"), None, "3")
        few = values[:5] if rng.random() < 0.5 else values
        lengths = (0, 1, 2, 4, 5, 6, 8, 8, 9, 40)
        segmentation = [
            [rng.choice(few) for _ in range(rng.choice(lengths))]
            for _ in range(rng.choice((1, 1, 2, 5)))
        ]
    else:
        segmentation = rng.choice(
            (odd_value(rng), {"size": size}, {"counts": runs}, [odd_value(rng)])
        )
    return Case("rle", {"segmentation": segmentation})


def _run_rle(arguments: Any, folder: Path) -> None:
    overlay(folder, INSTANCES.writer)
    path = folder / INSTANCES.json
    content = json.loads(path.read_bytes())
    content["annotations"][0]["segmentation"] = arguments["segmentation"]
    path.write_text(json.dumps(content))
    _read_all(INSTANCES, folder)


ODD_KEYS = (
    "name",
    "title",
    "root",
    "images",
    "panoptic",
    "instances",
    "labels",
    "classes",
    "unseen",
)
DATASET_FILE = {
    "name": "mine", "images": "coco/val2017/{}.jpg", "ignore_label": 255, "test_size": [64, 128],
    "exif": "apply",
    "panoptic": {"json": "coco/annotations/panoptic_val2017.json", "maps": "coco/panoptic_val2017"},
    "instances": "coco/annotations/instances_val2017.json",
    "unseen": ["toothbrush"],
}  # fmt: skip


def _make_dataset_file(rng: Random) -> Case:
    """A data set file (JSON, which is YAML, or YAML by hand) and its annotations, one damaged."""
    content: dict[str, Any] = {
        key: value for key, value in DATASET_FILE.items() if rng.random() < 0.8
    }
    if rng.random() < 0.3:
        content["classes"] = rng.choice(
            (["a", "b"], "coco_panoptic", {}, {"0": "a"}, [], "words.txt")
        )
    if rng.random() < 0.3:
        content["labels"] = rng.choice(
            ("coco/panoptic_val2017", "coco/panoptic_val2017/{}.png", "{}{}", "..")
        )
    if rng.random() < 0.1:
        content[rng.choice(ODD_KEYS)] = odd_value(rng)
    damaged = damaged_json(rng, content) if rng.random() < 0.7 else content
    files = {"mine.yaml": json_bytes(rng, damaged)}
    if rng.random() < 0.2:
        annotation = json.loads(base_files("coco")[INSTANCES.json])
        files[INSTANCES.json] = json_bytes(rng, damaged_json(rng, annotation))
    return Case("dataset_files", None, files)


def _run_dataset_file(_: Any, folder: Path) -> None:
    from frozenseg.data.datasets import open_dataset

    overlay(folder, "coco")
    samples = open_dataset(str(folder / "mine.yaml"))
    for index in range(len(samples)):
        samples[index]


ENTRIES = (
    Entry("coco_panoptic", _make("coco_panoptic", tuple(PANOPTIC)), _run, 2.0),
    Entry("coco_instances", _make("coco_instances", ("instances",)), _run, 2.0),
    Entry("lvis", _make("lvis", ("lvis",)), _run, 1.0),
    Entry("dataset_files", _make_dataset_file, _run_dataset_file, 1.5),
    Entry("rle", _make_rle, _run_rle, 2.0),
)
