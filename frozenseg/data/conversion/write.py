"""Writes converted annotations: a COCO instance file and the data set file that names it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from frozenseg.data.annotations.geometry import decode_mask
from frozenseg.data.conversion.labelme import read_labelme
from frozenseg.data.conversion.records import Converted
from frozenseg.data.conversion.yolo import read_yolo
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.paths import listed_files


class Conversion(NamedTuple):
    """The result of a conversion."""

    num_images: int
    num_objects: int
    num_classes: int
    faults: tuple[str, ...]  # what was left out, a sentence each


def convert_dataset(
    source: Path,
    output: Path,
    *,
    images: Path | None = None,
    names: Path | None = None,
    stuff: Sequence[str] = (),
    skip_bad: bool = False,
) -> Conversion:
    """Converts a folder of LabelMe or YOLO annotations.

    Writes ``output``, a data set file, and beside it a JSON file of the same stem. Images stay
    where they are.

    Args:
        source: the folder of annotations; the endings of its files tell the format.
        output: ends in .yaml.
        images: the folder of images; None: where the format has it.
        names: YOLO's YAML file of class names; None: searched for.
        stuff: names of the classes that are stuff.
        skip_bad: leave out annotations with a fault.

    Raises:
        UserError: nothing was found, an annotation has a fault, or a name of ``stuff`` is unknown.
    """
    if output.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"{output} must end in .yaml: give another --output")
    if not source.is_dir():
        raise UserError(f"no folder {source}: give a folder of annotations")
    if listed_files(source, "**/*.txt") and not listed_files(source, "*.json"):
        found = read_yolo(source, images=images, names=names, skip_bad=skip_bad)
    else:
        found = read_labelme(source, images=images, skip_bad=skip_bad)
    if unknown := [name for name in stuff if name not in found.classes]:
        raise UserError(
            f"--stuff names {unknown[0]!r}, but the classes are {', '.join(found.classes)[:200]}"
        )
    num_objects = sum(len(image.outlines) for image in found.images)
    if not num_objects:
        raise UserError(f"{source} has no object: annotate some, then convert again")
    annotation = output.with_suffix(".json")
    content = json.dumps(_coco(found, stuff))
    with atomic_write(annotation) as part:
        part.write_text(content, encoding="utf-8")
    with atomic_write(output) as part:
        part.write_text(_dataset_file(found, output, annotation), encoding="utf-8")
    return Conversion(len(found.images), num_objects, len(found.classes), tuple(found.faults))


def _coco(found: Converted, stuff: Sequence[str]) -> dict[str, list]:
    numbers = {name: number for number, name in enumerate(found.classes, start=1)}
    annotations = []
    for image_id, image in enumerate(found.images, start=1):
        for label, polygons in image.outlines:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": numbers[label],
                    "segmentation": polygons,
                    "area": int(decode_mask(polygons, image.size).sum()),
                    "bbox": _box(polygons),
                    "iscrowd": 0,
                }
            )
    return {
        "images": [
            {"id": number, "file_name": image.name, "height": image.size[0], "width": image.size[1]}
            for number, image in enumerate(found.images, start=1)
        ],
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "isthing": int(name not in stuff)}
            for name, number in numbers.items()
        ],
    }


def _box(polygons: Sequence[Sequence[float]]) -> list[float]:
    """x, y, width and height around all parts."""
    xs = [value for part in polygons for value in part[::2]]
    ys = [value for part in polygons for value in part[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _dataset_file(found: Converted, output: Path, annotation: Path) -> str:
    keys = {
        "name": output.stem,
        "images": os.path.relpath(found.folder, output.parent),
        "instances": annotation.name,
        "exif": "apply",  # both tools show images upright
    }
    classes = {name: [] for name in found.classes}
    head = "# Add synonyms to each class: see `frozenseg datasets check --help`\n"
    plain = yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)
    return plain + head + yaml.safe_dump({"classes": classes}, sort_keys=False, allow_unicode=True)
