"""Small data sets, laid out and encoded byte for byte as their makers distribute them."""

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from scipy.io import savemat

REPOSITORY = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    """One of the preparation scripts, as a module."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "datasets" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def prepare() -> Callable[..., int]:
    """Runs a preparation script: ``prepare("prepare_coco", root, "--force")``."""

    def run(name: str, root: Path, *arguments: str, processes: int = 1) -> int:
        options = ["--root", str(root), "--processes", str(processes), *arguments]
        return script(name).main(options)

    return run


def save_png(path: Path, values: np.ndarray, palette: Sequence[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if palette is None:
        Image.fromarray(values).save(path)
        return
    picture = Image.fromarray(values.astype(np.uint8), mode="P")
    picture.putpalette(list(palette))
    picture.save(path)


def save_picture(path: Path, size: tuple[int, int]) -> None:
    """Noise of (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path.name))).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def save_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def colors(ids: np.ndarray) -> np.ndarray:
    """Segment ids as COCO's colours."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def info(ids: np.ndarray, segment_id: int, category: int, *, crowd: int = 0) -> dict:
    return {
        "id": segment_id,
        "category_id": category,
        "area": int((ids == segment_id).sum()),
        "bbox": [0, 0, 1, 1],
        "iscrowd": crowd,
    }


COCO_IDS = np.array(
    [
        [3226956, 3226956, 6972, 6972, 0, 0],
        [3226956, 3226956, 6972, 6972, 0, 0],
        [14, 14, 6972, 16777215, 16777215, 16777215],
        [14, 14, 6972, 16777215, 16777215, 16777215],
    ]
)


def write_coco(root: Path, split: str = "val") -> None:
    """A person, a wall, a crowd of people and a toothbrush; and a picture of nothing."""
    base = root / "coco"
    nothing = np.zeros((3, 5), dtype=np.int64)
    maps = {139: COCO_IDS, 285: nothing}
    segments = {
        139: [
            info(COCO_IDS, 3226956, 1),
            info(COCO_IDS, 6972, 199),
            info(COCO_IDS, 14, 1, crowd=1),
            info(COCO_IDS, 16777215, 90),
        ],
        285: [],
    }
    images, annotations = [], []
    for image_id, ids in maps.items():
        name = f"{image_id:012d}"
        save_picture(base / f"{split}2017/{name}.jpg", ids.shape)
        save_png(base / f"panoptic_{split}2017/{name}.png", colors(ids))
        height, width = ids.shape
        images.append(
            {"id": image_id, "file_name": f"{name}.jpg", "height": height, "width": width}
        )
        annotations.append(
            {
                "image_id": image_id,
                "file_name": f"{name}.png",
                "segments_info": segments[image_id],
            }
        )
    save_json(
        base / f"annotations/panoptic_{split}2017.json",
        {"images": images, "annotations": annotations, "categories": []},
    )
    crowd = rle.frPyObjects({"size": [4, 6], "counts": [2, 2, 2, 2, 16]}, 4, 6)
    save_json(
        base / f"annotations/instances_{split}2017.json",
        {
            "images": images,
            "annotations": [
                {
                    "id": 1,
                    "image_id": 139,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": 4.5,
                    "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]],
                },
                {
                    "id": 2,
                    "image_id": 139,
                    "category_id": 1,
                    "iscrowd": 1,
                    "area": 4,
                    "segmentation": {"size": [4, 6], "counts": [2, 2, 2, 2, 16]},
                },
                {
                    "id": 3,
                    "image_id": 139,
                    "category_id": 90,
                    "iscrowd": 0,
                    "area": 6,
                    "segmentation": {"size": [4, 6], "counts": crowd["counts"].decode()},
                },
            ],
            "categories": [],
        },
    )


ADE_SEMANTIC = np.array([[1, 1, 8, 8], [1, 1, 8, 8], [150, 150, 0, 0]], dtype=np.uint8)
ADE_OBJECTS = np.array([[0, 0, 1, 1], [0, 2, 2, 2], [0, 7, 0, 0]], dtype=np.uint8)  # numbers
ADE_CLASSES = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 100, 0, 0]], dtype=np.uint8)  # 1..100


def write_ade20k(root: Path) -> None:
    """A wall, two beds of which one covers it, a flag of which half is an object; and nothing."""
    base = root / "ADEChallengeData2016"
    empty = np.zeros((2, 2), dtype=np.uint8)
    for number, (semantic, classes, objects) in enumerate(
        [(ADE_SEMANTIC, ADE_CLASSES, ADE_OBJECTS), (empty, empty, empty)], start=1
    ):
        name = f"ADE_val_{number:08d}"
        save_picture(base / f"images/validation/{name}.jpg", semantic.shape)
        save_png(base / f"annotations/validation/{name}.png", semantic)
        marks = np.stack([classes, objects, np.zeros_like(objects)], axis=-1)
        save_png(base / f"annotations_instance/validation/{name}.png", marks)


ADE_FULL_LABELS = {"wall": 2978, "building": 312, "sky": 2420}


def write_ade20k_full(root: Path) -> None:
    """A small picture, and one whose short side is more than 512 pixels."""
    folder = root / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
    for number, (height, width) in enumerate([(4, 6), (600, 900)], start=1):
        labels = np.zeros((height, width), dtype=np.int64)
        labels[: height // 2] = ADE_FULL_LABELS["wall"]
        labels[: height // 2, width // 2 :] = ADE_FULL_LABELS["sky"]
        labels[-1, -1] = 5000  # none of the 847
        name = f"ADE_val_{number:08d}"
        save_picture(folder / f"{name}.jpg", (height, width))
        blue = np.full_like(labels, 77)  # the object, of no interest
        save_png(
            folder / f"{name}_seg.png",
            np.stack([labels // 256 * 10, labels % 256, blue], axis=-1).astype(np.uint8),
        )
        save_png(folder / f"{name}_parts_1.png", np.zeros((height, width, 3), dtype=np.uint8))


CITYSCAPES_LABELS = np.array([[7, 7, 7, 23], [26, 26, 26, 4], [24, 24, 1, 0]], dtype=np.uint8)
CITYSCAPES_OBJECTS = np.array(  # road, sky, two cars, a group of people, static, ego vehicle
    [[7, 7, 7, 23], [26000, 26001, 26001, 4], [24, 24, 1, 0]], dtype=np.uint16
)


def write_cityscapes(root: Path) -> None:
    stem = "frankfurt/frankfurt_000000_000294"
    base = root / "cityscapes"
    save_picture(base / f"leftImg8bit/val/{stem}_leftImg8bit.png", CITYSCAPES_LABELS.shape)
    save_png(base / f"gtFine/val/{stem}_gtFine_labelIds.png", CITYSCAPES_LABELS)
    save_png(base / f"gtFine/val/{stem}_gtFine_instanceIds.png", CITYSCAPES_OBJECTS)


def write_mapillary_vistas(root: Path) -> None:
    """A bird, the ego vehicle, and unlabelled pixels, in the files' own palette."""
    base = root / "mapillary_vistas/validation"
    labels = np.array([[0, 0, 64], [65, 65, 64]], dtype=np.uint8)
    ids = np.array([[1000, 1000, 70000], [0, 0, 70000]])
    save_picture(base / "images/aBc-1_2.jpg", labels.shape)
    save_png(base / "labels/aBc-1_2.png", labels, palette=range(198))
    save_png(base / "panoptic/aBc-1_2.png", colors(ids))
    save_json(
        base / "panoptic/panoptic_2018.json",
        {
            "images": [{"id": "aBc-1_2", "file_name": "aBc-1_2.jpg"}],
            "annotations": [
                {
                    "image_id": "aBc-1_2",
                    "file_name": "aBc-1_2.png",
                    "segments_info": [info(ids, 1000, 1), info(ids, 70000, 65)],
                }
            ],
            "categories": [],
        },
    )


def write_bdd100k(root: Path) -> None:
    """A car, the road, and a segment of category 0, unlabeled."""
    base = root / "bdd100k"
    labels = np.array([[13, 13, 0], [255, 255, 0]], dtype=np.uint8)
    ids = np.array([[257, 257, 2], [3, 3, 2]])
    save_picture(base / "images/10k/val/7d06fefd.jpg", labels.shape)
    save_png(base / "labels/sem_seg/masks/val/7d06fefd.png", labels)
    save_png(base / "jsons/pan_seg/masks/val/7d06fefd.png", colors(ids))
    save_json(
        base / "jsons/pan_seg_val_cocofmt.json",
        {
            "images": [{"id": 1, "file_name": "7d06fefd.jpg"}],
            "annotations": [
                {
                    "image_id": 1,
                    "file_name": "7d06fefd.png",
                    "segments_info": [info(ids, 257, 35), info(ids, 2, 7), info(ids, 3, 0)],
                }
            ],
            "categories": [],
        },
    )


VOC_LABELS = np.array([[0, 0, 15], [255, 20, 1]], dtype=np.uint8)


def write_pascal_voc(root: Path) -> None:
    base = root / "VOCdevkit/VOC2012"
    lists = base / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_000033\n2007_000042\n")
    (lists / "train.txt").write_text("2007_000032\n")
    palette = [channel for index in range(256) for channel in (index, 255 - index, 7)]
    for name in ("2007_000032", "2007_000033", "2007_000042"):
        save_picture(base / f"JPEGImages/{name}.jpg", VOC_LABELS.shape)
        save_png(base / f"SegmentationClass/{name}.png", VOC_LABELS, palette=palette)


CONTEXT_MATRIX = np.array([[2, 2, 0], [459, 431, 1]], dtype=np.uint16)


def write_pascal_context(root: Path) -> None:
    """An aeroplane over the sky, and wood; other classes altogether among the 459."""
    base = root / "VOCdevkit/VOC2010"
    images, segments = [], []
    for image_id, phase in ((2008000002, "val"), (2008000008, "train")):
        name = f"{str(image_id)[:4]}_{str(image_id)[4:]}"
        images.append(
            {
                "image_id": image_id,
                "file_name": f"{name}.jpg",
                "phase": phase,
                "height": 2,
                "width": 3,
            }
        )
        save_picture(base / f"JPEGImages/{name}.jpg", (2, 3))
        (base / "trainval").mkdir(exist_ok=True)
        savemat(base / f"trainval/{name}.mat", {"LabelMap": CONTEXT_MATRIX})
        for category, mask in (
            (360, [[1, 1, 1], [0, 0, 0]]),
            (2, [[0, 1, 0], [0, 0, 0]]),
            (458, [[0, 0, 0], [1, 0, 0]]),
        ):
            runs = rle.encode(np.asfortranarray(np.array(mask, dtype=np.uint8)))
            segments.append(
                {
                    "id": len(segments),
                    "image_id": image_id,
                    "category_id": category,
                    "iscrowd": 0,
                    "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
                }
            )
    save_json(
        base / "trainval_merged.json",
        {"images": images, "annos_segmentation": segments, "categories": []},
    )


def write_lvis(root: Path) -> None:
    """One picture from COCO's val2017, one from its train2017."""
    images = []
    for image_id, split in ((397133, "val2017"), (37777, "train2017")):
        path = f"{split}/{image_id:012d}.jpg"
        save_picture(root / "coco" / path, (4, 5))
        images.append(
            {
                "id": image_id,
                "coco_url": f"http://images.cocodataset.org/{path}",
                "height": 4,
                "width": 5,
                "neg_category_ids": [1203, 7],
                "not_exhaustive_category_ids": [1],
            }
        )
    save_json(
        root / "lvis/lvis_v1_val.json",
        {
            "images": images,
            "annotations": [
                {
                    "id": 1,
                    "image_id": 397133,
                    "category_id": 1203,
                    "area": 6.0,
                    "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]],
                }
            ],
            "categories": [],
        },
    )


WRITERS: dict[str, Callable[[Path], None]] = {
    "coco": write_coco,
    "ade20k": write_ade20k,
    "ade20k_full": write_ade20k_full,
    "cityscapes": write_cityscapes,
    "mapillary_vistas": write_mapillary_vistas,
    "bdd100k": write_bdd100k,
    "pascal_voc": write_pascal_voc,
    "pascal_context": write_pascal_context,
    "lvis": write_lvis,
}


@pytest.fixture
def download(tmp_path: Path) -> Callable[..., Path]:
    """Lays small downloads out below a data root: ``root = download("coco", "lvis")``."""

    def write(*names: str) -> Path:
        for name in names:
            WRITERS[name](tmp_path)
        return tmp_path

    return write


@pytest.fixture(scope="session")
def layouts() -> ModuleType:
    """This module: its writers, and the values they write."""
    return sys.modules[__name__]
