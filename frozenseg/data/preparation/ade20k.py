"""ADE20K (150 classes): semantic, instance and panoptic annotation for evaluation.

    frozenseg datasets prepare ade20k

Reads, below ADEChallengeData2016/ in the data root, annotations/SPLIT/*.png (0 = other, 1..150) and
annotations_instance/SPLIT/*.png (red = instance class 1..100, green = instance, 0 = none). Writes
annotations_detectron2/SPLIT/*.png (0..149, 255 = other), ade20k_instance_{train,val}.json, and
ade20k_panoptic_{train,val}.json with a folder of segment maps of the same name.
"""

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from frozenseg.data.images import read_label_map
from frozenseg.data.preparation.running import (
    Preparation,
    check_same_size,
    input_files,
    run_script,
    save_labels,
)
from frozenseg.data.readers.panoptic import colors_of_ids
from frozenseg.data.registry import dataset_spec
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.records import read_record, sound_record, write_record
from frozenseg.vocabulary import builtin_vocabulary, class_table

SHORT = {"training": "train", "validation": "val"}
SPLITS = tuple(SHORT)
KNOWN = {"training": 20_210, "validation": 2_000}
NUM_CLASSES, NUM_THINGS = 150, 100
PAGE = dataset_spec("openvocab_ade20k_panoptic_val").page


class Instance(NamedTuple):
    """One object of the instance annotation."""

    class_id: int  # 0..149
    mask: np.ndarray  # (H, W) bool


class Paths(NamedTuple):
    """The files of one image."""

    semantic: Path
    instances: Path
    panoptic: Path  # to write
    record: Path  # to write when the image is done; deleted when all are


class Record(NamedTuple):
    """One image's part of the JSON files."""

    image: dict[str, Any]
    panoptic: dict[str, Any]
    instances: list[dict[str, Any]]


def prepare(preparation: Preparation, splits: Sequence[str]) -> None:
    base = preparation.root / "ADEChallengeData2016"
    for split in splits:
        maps = input_files(base / "annotations" / split, "*.png", page=PAGE, known=KNOWN[split])
        target = base / "annotations_detectron2" / split
        preparation.remove_leftovers(target)
        jobs = [(path, target / path.name) for path in maps]
        jobs = [job for job in jobs if not preparation.is_done(job[1])]
        preparation.run(convert_semantic, jobs, title=f"ADE20K {split}: semantic")
        prepare_objects(preparation, base, split, maps)


def prepare_objects(preparation: Preparation, base: Path, split: str, maps: Sequence[Path]) -> None:
    """Writes the JSON files last, so that they are there only if the rest is."""
    panoptic_json = base / f"ade20k_panoptic_{SHORT[split]}.json"
    instance_json = base / f"ade20k_instance_{SHORT[split]}.json"
    segment_maps, records = panoptic_json.with_suffix(""), panoptic_json.with_suffix(".parts")
    if preparation.is_done(panoptic_json) and preparation.is_done(instance_json):
        shutil.rmtree(records, ignore_errors=True)  # left by a run that was killed at its very end
        return
    folder = base / "annotations_instance" / split
    input_files(folder, "*.png", page=PAGE, known=KNOWN[split])
    pictures = [
        Paths(path, folder / path.name, segment_maps / path.name, records / f"{path.stem}.json")
        for path in maps
    ]
    preparation.remove_leftovers(base, segment_maps, records)
    jobs = [paths for paths in pictures if preparation.force or sound_record(paths.record) is None]
    preparation.run(convert_objects, jobs, title=f"ADE20K {split}: panoptic, instance")
    done = [Record(**read_record(paths.record)) for paths in pictures]
    write_json(instance_json, instance_annotation(done))
    write_json(panoptic_json, panoptic_annotation(done))
    shutil.rmtree(records)


def convert_semantic(_: None, job: tuple[Path, Path]) -> None:
    source, target = job
    save_labels(read_semantic(source) - np.uint8(1), target)  # 0, other, becomes 255


def convert_objects(_: None, paths: Paths) -> None:
    check_same_size(paths.semantic, paths.instances)
    semantic, instances = read_semantic(paths.semantic), read_instances(paths.instances)
    ids, segments = panoptic_of(semantic, instances)
    with atomic_write(paths.panoptic) as part:
        Image.fromarray(colors_of_ids(ids)).save(part)
    stem, (height, width) = paths.semantic.stem, semantic.shape
    record = Record(
        {"id": stem, "file_name": f"{stem}.jpg", "height": height, "width": width},
        {"image_id": stem, "file_name": f"{stem}.png", "segments_info": segments},
        [object_of(stem, each) for each in instances],
    )
    write_record(paths.record, record._asdict())


def read_semantic(path: Path) -> np.ndarray:
    """(H, W) uint8: 0 other, 1..150."""
    labels = read_label_map(path)
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.max() > NUM_CLASSES:
        raise UserError(f"{path} is not a label map of 0..{NUM_CLASSES}: get it again from {PAGE}")
    return labels


def read_instances(path: Path) -> list[Instance]:
    """The objects of an instance PNG, in order of their numbers."""
    colors = read_label_map(path)
    if colors.ndim != 3 or colors.dtype != np.uint8:
        raise UserError(f"{path} is not a colour image: fetch it again from {PAGE}")
    classes, numbers = colors[..., 0], colors[..., 1]
    instances = []
    for number in np.unique(numbers[numbers > 0]):
        mask = numbers == number
        found = np.unique(classes[mask])
        if len(found) != 1 or int(found[0]) not in instance_classes():
            raise UserError(f"{path} gives object {number} the classes {found.tolist()}, not one")
        instances.append(Instance(instance_classes()[int(found[0])], mask))
    return instances


def panoptic_of(
    semantic: np.ndarray, instances: Sequence[Instance]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Segment ids and their entries: stuff first, objects painted over it.

    A stuff segment's area and box include pixels that objects cover, as in the official annotation.
    Pixels of things without an object are void.
    """
    is_thing = builtin_vocabulary("ade20k_150").is_thing
    ids, segments = np.zeros(semantic.shape, dtype=np.int32), []
    for label in np.unique(semantic[semantic > 0]).tolist():
        if not is_thing[label - 1]:
            mask = semantic == label
            ids[mask] = label
            segments.append(segment_of(label, label - 1, mask))
    for number, instance in enumerate(instances, start=NUM_CLASSES + 1):
        ids[instance.mask] = number
        segments.append(segment_of(number, instance.class_id, instance.mask))
    return ids, segments


def segment_of(segment_id: int, class_id: int, mask: np.ndarray) -> dict[str, Any]:
    return {
        "id": segment_id,
        "category_id": class_id,
        "area": int(mask.sum()),
        "bbox": box_of(mask),
        "iscrowd": 0,
    }


def object_of(stem: str, instance: Instance) -> dict[str, Any]:
    runs: Any = rle.encode(np.asfortranarray(instance.mask.astype(np.uint8)))
    return {
        "image_id": stem,
        "category_id": instance.class_id,
        "segmentation": {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")},
        "area": int(rle.area(runs)),
        "bbox": box_of(instance.mask),
        "iscrowd": 0,
    }


def box_of(mask: np.ndarray) -> list[int]:
    """x, y, width and height in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]


def instance_annotation(records: Sequence[Record]) -> dict[str, Any]:
    objects = [each for record in records for each in record.instances]
    names = [row.name for row in class_table("ade20k_150")]
    return {
        "images": [record.image for record in records],
        "annotations": [{"id": number} | each for number, each in enumerate(objects, start=1)],
        "categories": [{"id": k, "name": names[k]} for k in sorted(instance_classes().values())],
    }


def panoptic_annotation(records: Sequence[Record]) -> dict[str, Any]:
    is_thing = builtin_vocabulary("ade20k_150").is_thing
    return {
        "images": [record.image for record in records],
        "annotations": [record.panoptic for record in records],
        "categories": [
            {"id": k, "name": row.name, "isthing": int(is_thing[k]), "color": list(row.color or ())}
            for k, row in enumerate(class_table("ade20k_150"))
        ],
    }


@cache
def instance_classes() -> dict[int, int]:
    """Class 0..149 by the instance challenge's 1..100, which are our things in their order."""
    is_thing = builtin_vocabulary("ade20k_150").is_thing
    things = [k for k in range(NUM_CLASSES) if is_thing[k]]
    if len(things) != NUM_THINGS:
        raise UserError(
            f"ade20k_150.txt has {len(things)} classes without [stuff], but {NUM_THINGS} have "
            "objects in ADE20K: undo the changes to its marks"
        )
    return dict(enumerate(things, start=1))


def write_json(path: Path, content: object) -> None:
    with atomic_write(path) as part:
        part.write_text(json.dumps(content))


def main(arguments: Sequence[str] | None = None) -> int:
    return run_script(prepare, about=__doc__, splits=SPLITS, arguments=arguments)
