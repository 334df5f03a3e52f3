"""Files of own data: captions, polygons of LabelMe and YOLO, pairs of regions and nouns."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.entries.images import encoded, image_bytes
from tools.fuzz.mutate import (
    ODD_TEXTS,
    damaged_bytes,
    damaged_json,
    edit_file,
    edits,
    json_bytes,
)

LEAD_OUT = ("../victim.png", "/etc/hostname", "a/../../victim.png", "link/victim.png", "", ".")
CAPTIONS = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "annotations": [
        {"image_id": 1, "id": 1, "caption": "A red circle on the sand."},
        {"image_id": 2, "id": 2, "caption": "grass"},
    ],
}


def _make_captions(rng: Random) -> Case:
    content: Any = {**CAPTIONS, "images": [_image(rng), *CAPTIONS["images"][1:]]}
    if rng.random() < 0.7:
        content = damaged_json(rng, CAPTIONS, times=rng.choice((1, 1, 3)))
    arguments = {"per_image": rng.choice((None, 1, 5))}
    return Case("captions", arguments, {"c.json": json_bytes(rng, content)})


def _image(rng: Random) -> dict[str, Any]:
    return {"id": 1, "file_name": rng.choice((*LEAD_OUT, *ODD_TEXTS))}


def _run_captions(arguments: Any, folder: Path) -> None:
    from frozenseg.data.readers.captions import read_captions
    from frozenseg.errors import UserError
    from frozenseg.io.paths import inside
    from frozenseg.mining.nouns import find_nouns, find_phrases

    images = folder / "images"
    images.mkdir()
    for each in read_captions(folder / "c.json", per_image=arguments["per_image"]):
        for caption in each.captions:
            find_nouns(caption)
            find_phrases(caption)
        try:
            path = inside(images, each.file_name, source="c.json")
        except UserError:
            continue
        if images not in (path.resolve(), *path.resolve().parents):
            raise WrongResult(f"{path} is outside the folder of images", kind="escape")


LABELME = {
    "imagePath": "a.png", "imageHeight": 24, "imageWidth": 32, "imageData": None,
    "shapes": [
        {"label": "ball", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon"},
        {"label": "ball", "points": [[1, 1], [20, 9]], "shape_type": "rectangle", "group_id": 1},
        {"label": "lawn", "points": [[10, 10], [14, 10]], "shape_type": "circle", "group_id": None},
    ],
}  # fmt: skip
YOLO_NAMES = "path: x\nnames:\n  0: ball\n  1: lawn\n"
YOLO_LINES = ("0 0.1 0.1 0.5 0.1 0.5 0.5", "1 0 0 1 0 1 1 0 1", "0 0.2 0.2 0.3 0.3")
YOLO_WORDS = ("0", "1", "-1", "2", "0.5", "1e9", "nan", "inf", "\u0663", "9" * 5000, "a", "0x1", "")
ODD_NAMES = (
    "names: [ball, lawn]\n", "names: {0: ball, 2: lawn}\n", "names: ball\n", "names:\n", "", "[",
    "names: {true: a, 1: b}\n", "names: [1, 2]\n", "names: [[a]]\n", "names: 2026-11-27\n",
    "names: !!python/object/apply:os.getpid []\n", "names: &a [*a]\n", "names: {0: &a [*a]}\n",
    "names: " + "[" * 3000, "0: 1\n", "names: [ball, ball]\n",
)  # fmt: skip
ALIASES = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


def _make_converted(rng: Random) -> Case:
    options = {
        "skip_bad": rng.random() < 0.4,
        "stuff": rng.choice(([], [], [], ["lawn"], ["sky", ""])),
    }
    image = encoded(rng) if rng.random() < 0.1 else _photo()
    if rng.random() < 0.5:
        content = damaged_json(rng, LABELME, times=rng.choice((1, 1, 2, 4)))
        if rng.random() < 0.15 and isinstance(content, dict):
            content["imagePath"] = rng.choice((*LEAD_OUT, *ODD_TEXTS))
        files = {"source/a.json": json_bytes(rng, content), "source/a.png": image}
        return Case("converted_data", options, files)
    lines = [_yolo_line(rng) for _ in range(rng.choice((0, 1, 3)))]
    odd = rng.choice((*ODD_NAMES, ALIASES + "names: *a8\n"))
    names = (YOLO_NAMES if rng.random() < 0.6 else odd).encode()
    text = "\n".join((YOLO_LINES[0], *lines)).encode()
    files = {
        "source/labels/a.txt": damaged_bytes(rng, text) if rng.random() < 0.3 else text,
        "source/images/a.png": image,
        "source/data.yaml": damaged_bytes(rng, names) if rng.random() < 0.2 else names,
    }
    return Case("converted_data", {**options, "labels": True}, files)


def _photo() -> bytes:
    from tools.fuzz.entries.images import png

    return png(Random(0), 24, 32)


def _yolo_line(rng: Random) -> str:
    words = rng.choice(YOLO_LINES).split()
    for _ in range(rng.choice((0, 1, 2))):
        words[rng.randrange(len(words))] = rng.choice(YOLO_WORDS)
    return " ".join(words)


def _run_converted(arguments: Any, folder: Path) -> None:
    from frozenseg.data.conversion.write import convert_dataset
    from frozenseg.data.datasets import open_dataset

    (folder / "victim.png").write_bytes(_photo())
    source = folder / "source"
    convert_dataset(
        source / "labels" if arguments.get("labels") else source,
        folder / "mine.yaml",
        stuff=arguments["stuff"],
        skip_bad=arguments["skip_bad"],
    )
    samples = open_dataset(str(folder / "mine.yaml"))  # what was converted can be opened
    for index in range(len(samples)):
        samples[index]


HEADER = "filepath\tmask\ttitle"
ROW = "crops/a.png\tmasks/a.png\tcircle"
ODD_ROWS = (
    "crops/a.png\tmasks/a.png", "\t\t", "", "crops/a.png", "crops/a.png\tmasks/a.png\tx\ty",
    "crops/missing.png\tmasks/a.png\tx", "../victim.png\tmasks/a.png\tx",
    "/etc/hostname\tmasks/a.png\tx", "link/victim.png\tmasks/a.png\tx", "crops\tmasks\tx",
    "crops/a.png\tmasks/a.png\t\x1b[31m", "crops/a\0.png\tmasks/a.png\tx",
    "x" * 3000 + ".png\tmasks/a.png\tx", "crops/a.png\tcrops/a.png\t\u202e",
)  # fmt: skip
ODD_HEADERS = ("", "a\tb\tc", "title\tmask\tfilepath", HEADER.upper(), HEADER + "\tfilepath")


def _make_pairs(rng: Random) -> Case:
    header = HEADER if rng.random() < 0.8 else rng.choice(ODD_HEADERS)
    rows = [rng.choice((ROW, rng.choice(ODD_ROWS))) for _ in range(rng.choice((0, 1, 1, 3)))]
    content = "\n".join((header, *rows, "")).encode()
    files = {
        "pairs/pairs.tsv": damaged_bytes(rng, content) if rng.random() < 0.3 else content,
        "pairs/crops/a.png": image_bytes(rng) if rng.random() < 0.3 else _photo(),
        "pairs/masks/a.png": image_bytes(rng) if rng.random() < 0.3 else _photo(),
    }
    return Case("pair_lists", None, files)


def _run_pairs(_: Any, folder: Path) -> None:
    from frozenseg.data.pairs import read_crop, read_pairs

    source = folder / "pairs/pairs.tsv"
    (folder / "victim.png").write_bytes(_photo())
    (folder / "pairs/link").symlink_to(folder)
    for pair in read_pairs(source):
        if "victim" in pair.filepath and not pair.filepath.startswith("link/"):
            raise WrongResult("a pair outside its folder is accepted", kind="escape")
        crop, mask = read_crop(source.parent, pair, source=source)
        if "victim" in pair.filepath:
            raise WrongResult("a link leads to a pair outside its folder", kind="escape")
        if crop.shape[1:] != mask.shape or mask.dtype != torch.bool:
            raise WrongResult("a mask does not fit its crop")


def _make_mined(rng: Random) -> Case:
    target = rng.choice(("record", "record", "record", "settings"))
    kind = rng.choice(("edits", "edits", "edits", "odd", "names", "empty", "folder"))
    arguments: dict[str, Any] = {"target": target, "kind": kind, "edits": edits(rng, 300)}
    if kind == "odd":
        arguments["value"] = damaged_json(rng, _record(), times=2)
    return Case("mined_pairs", arguments)


def _record(name: str = "crops/000/000000-00.png") -> dict[str, Any]:
    return {"pairs": [[name, "masks/000/000000-00.png", "circle"]], "problem": None}


def _run_mined(arguments: Any, folder: Path) -> None:
    from frozenseg.mining.folder import PairFolder
    from frozenseg.mining.miner import Mined, MinedRegion
    from frozenseg.mining.report import draw_samples, summarize

    pairs = PairFolder(folder / "pairs")
    crop, mask = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.ones(8, 8, dtype=torch.bool)
    mined = Mined((MinedRegion(crop, mask, ("circle",)),))
    settings = {"clip": "shapes"}
    pairs.check_settings(settings)
    expected = pairs.write(0, mined)
    place = "settings.json" if arguments["target"] == "settings" else "records/000/000000.json"
    is_changed = _damage_record(folder / "pairs" / place, arguments)
    pairs.check_settings(settings)
    found = list(pairs.records([0]))
    if found and found != [expected]:
        raise WrongResult("a damaged record is used")
    if not found and not is_changed:
        raise WrongResult("a sound record is passed over")
    if not found:
        pairs.write(0, mined)  # it is mined again
        found = list(pairs.records([0]))
    pairs.write_list(found)
    summarize(found)
    draw_samples(pairs.folder, found[0].pairs)


def _damage_record(path: Path, arguments: Any) -> bool:
    from frozenseg.io.records import write_record

    makers: dict[str, Callable[[], object]] = {
        "odd": lambda: path.write_text(json.dumps(arguments["value"])),
        "names": lambda: write_record(path, _record("../../victim.png")),
        "empty": lambda: path.write_bytes(b""),
        "folder": lambda: (path.unlink(), path.mkdir()),
    }
    if arguments["kind"] == "edits":
        return edit_file(path, arguments["edits"])
    makers[arguments["kind"]]()
    return True


ENTRIES = (
    Entry("captions", _make_captions, _run_captions, 0.8),
    Entry("converted_data", _make_converted, _run_converted, 1.2),
    Entry("pair_lists", _make_pairs, _run_pairs, 0.8),
    Entry("mined_pairs", _make_mined, _run_mined, 0.6),
)
