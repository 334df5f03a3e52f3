"""LabelMe: a JSON file per image, with named shapes in pixels of the upright image."""

import math
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from frozenseg.data.annotations.faults import BadEntry, Faults
from frozenseg.data.annotations.fields import as_entry, entries_of, is_finite, text
from frozenseg.data.annotations.geometry import checked_polygons
from frozenseg.data.conversion.records import AnnotatedImage, Converted, Outline
from frozenseg.data.images import image_size
from frozenseg.errors import UserError
from frozenseg.io.documents import read_json
from frozenseg.io.paths import inside, listed_files, refusal
from frozenseg.io.text import quoted

CIRCLE_POINTS = 48


def read_labelme(source: Path, *, images: Path | None, skip_bad: bool) -> Converted:
    """Reads a folder of LabelMe's files.

    Polygons, rectangles and circles are read. Shapes of one label with the same ``group_id`` are
    parts of one object.

    Args:
        source: the folder of JSON files.
        images: the folder of images; None: ``source``. Where it is given, folders in ``imagePath``
            do not count.
        skip_bad: leave out files and shapes with a fault.

    Raises:
        UserError: a file or a shape has a fault, and ``skip_bad`` is off; or there is no file.
    """
    files = listed_files(source, "*.json")
    if not files:
        raise UserError(f"no JSON file in {source}: give the folder that LabelMe saved to")
    folder = source if images is None else images
    found: list[AnnotatedImage] = []
    labels: dict[str, None] = {}
    notes: list[str] = []
    for path in files:
        faults = Faults(path, collect=skip_bad)
        with faults.entry("the file"):
            image = _read_file(path, folder, faults, by_name=images is not None)
            found.append(image)
            labels |= dict.fromkeys(each.label for each in image.outlines)
        notes += faults.found
    return Converted(folder, sorted(labels), found, notes)


def _read_file(path: Path, folder: Path, faults: Faults, *, by_name: bool) -> AnnotatedImage:
    content = as_entry(read_json(path))
    name = text(content, "imagePath").replace("\\", "/")
    name = PureWindowsPath(name).name if by_name else name
    if reason := refusal(name):
        raise BadEntry(f"has the imagePath {quoted(name)}, which {reason}: give --images")
    size = image_size(inside(folder, name, source=path))
    stated = content.get("imageHeight"), content.get("imageWidth")
    if None not in stated and stated != size:
        raise BadEntry(
            f"was drawn on an image of {quoted(stated)} (height, width), but {name} has {size}"
        )
    outlines: list[Outline] = []
    groups: dict[tuple[str, object], Outline] = {}
    for number, shape in enumerate(entries_of(content, "shapes")):
        with faults.entry(f"shapes[{number}]"):
            outline = Outline(text(as_entry(shape), "label").strip(), [_polygon(shape)])
            checked_polygons(outline.polygons, size)
            group = shape.get("group_id")
            if not isinstance(group, (int, str)):
                outlines.append(outline)
                continue
            known = groups.setdefault((outline.label, group), outline)
            if known is outline:
                outlines.append(outline)
            else:
                known.polygons.extend(outline.polygons)
    return AnnotatedImage(name, size, outlines)


def _polygon(shape: Mapping[str, Any]) -> list[float]:
    """``[x0, y0, x1, y1, ...]`` of a shape.

    Raises:
        BadEntry: it encloses no area, or its points are wrong.
    """
    kind = shape.get("shape_type") or "polygon"
    points = entries_of(shape, "points")
    for point in points:
        if not (isinstance(point, list) and len(point) == 2 and all(map(is_finite, point))):
            raise BadEntry(f"has the point {quoted(point)}: give x and y as finite numbers")
    if kind == "polygon":
        return [value for point in points for value in point]
    if kind not in ("rectangle", "circle") or len(points) != 2:
        raise BadEntry(
            f"is a {quoted(kind)} of {len(points)} points: only polygons, rectangles and circles "
            "enclose an area"
        )
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        return [x0, y0, x1, y0, x1, y1, x0, y1]
    radius = math.hypot(x1 - x0, y1 - y0)
    angles = [2 * math.pi * step / CIRCLE_POINTS for step in range(CIRCLE_POINTS)]
    return [
        value
        for angle in angles
        for value in (x0 + radius * math.cos(angle), y0 + radius * math.sin(angle))
    ]
