"""Files of segmentations: JSON records with RLE masks, id maps, masks, drawings, COCO data sets."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.text import one_line

if TYPE_CHECKING:
    from frozenseg.inference.segmentation import NamedSegment, Segmentation


def coco_record(found: "Segmentation", *, rle: bool) -> dict[str, object]:
    """Size, classes and segments as plain values, with the keys of COCO's panoptic format."""
    height, width = found.image.shape[:2]
    segments = [_segment_record(segment) for segment in found.segments]
    if rle:
        for segment, mask in zip(segments, found.masks, strict=True):
            segment["segmentation"] = encode_mask(mask)
    return {
        "height": height,
        "width": width,
        "task": found.task,
        "categories": _categories(found),
        "segments_info": segments,
    }


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, object]:
    """An (H, W) mask as the compressed RLE of pycocotools, with text that JSON can hold."""
    from pycocotools import mask as coco_masks

    runs = coco_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    counts = cast(bytes, runs["counts"])
    return {"size": list(runs["size"]), "counts": counts.decode("ascii")}


class CocoDataset:
    """One COCO file for many images; the classes are those of the first image."""

    def __init__(self) -> None:
        self._images: list[dict[str, object]] = []
        self._annotations: list[dict[str, object]] = []
        self._categories: list[dict[str, object]] = []

    def add(self, file_name: str, found: "Segmentation") -> None:
        """Adds an image and one annotation per segment; ids count from 1."""
        height, width = found.image.shape[:2]
        image_id = len(self._images) + 1
        self._categories = self._categories or _categories(found)
        self._images.append(
            {"id": image_id, "file_name": file_name, "height": height, "width": width}
        )
        for segment, mask in zip(found.segments, found.masks, strict=True):
            annotation = _segment_record(segment)
            annotation |= {
                "id": len(self._annotations) + 1,
                "image_id": image_id,
                "iscrowd": 0,
                "segmentation": encode_mask(mask),
            }
            self._annotations.append(annotation)

    def write(self, path: Path) -> None:
        """Writes the file atomically."""
        content = {
            "images": self._images,
            "categories": self._categories,
            "annotations": self._annotations,
        }
        _write_json(path, content)


def write_segmentation(
    found: "Segmentation", folder: Path, stem: str, *, masks: bool, scores: bool, drawing: bool
) -> dict[str, Path]:
    """Writes the files of one image; see :meth:`Segmentation.save`.

    Args:
        found: the result.
        folder: for the files.
        stem: of the file names.
        masks: also write a PNG per segment.
        scores: show scores in the drawing.
        drawing: write the drawing.

    Raises:
        UserError: a file would replace the image itself.
    """
    paths = {"segments": folder / f"{stem}.json"}
    if drawing:
        paths["drawing"] = folder / f"{stem}.png"
    has_ids = found.instances is None
    if has_ids:
        paths["ids"] = folder / f"{stem}_ids.png"
    _spare(found.source, paths.values())
    _write_json(paths["segments"], coco_record(found, rle=not has_ids))
    if drawing:
        _write_png(paths["drawing"], found.draw(scores=scores))
    if has_ids:
        _write_png(paths["ids"], Image.fromarray(found.id_map.astype(np.uint16)))
    if masks:
        paths["masks"] = mask_folder(folder, stem)
        _write_masks(found, paths["masks"])
    return paths


def _spare(source: Path | None, paths: Iterable[Path]) -> None:
    """Raises a ``UserError`` if a file would replace the image."""
    for path in paths:
        if source is not None and path.resolve() == source.resolve():
            raise UserError(
                f"{one_line(path)} is the image itself and would be overwritten: give another "
                "folder or stem"
            )


def mask_folder(folder: Path, stem: str) -> Path:
    """The folder that ``masks=True`` writes to."""
    return folder / f"{stem}_masks"


def _write_masks(found: "Segmentation", folder: Path) -> None:
    """One PNG per segment; masks of an earlier run are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("[0-9][0-9][0-9][0-9]_*.png"):
        stale.unlink()
    for segment, mask in zip(found.segments, found.masks, strict=True):
        slug = re.sub(r"[^\w-]+", "_", segment.name)[:60].strip("_")
        picture = Image.fromarray(mask.astype(np.uint8) * 255)
        _write_png(folder / f"{segment.id:04d}_{slug}.png", picture)


def _segment_record(segment: "NamedSegment") -> dict[str, object]:
    x0, y0, x1, y1 = segment.box
    return {
        "id": segment.id,
        "category_id": segment.class_id,
        "name": segment.name,
        "isthing": int(segment.is_thing),
        "score": None if segment.score != segment.score else round(segment.score, 4),
        "area": segment.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
    }


def _categories(found: "Segmentation") -> list[dict[str, object]]:
    pairs = zip(found.vocabulary.names, found.vocabulary.is_thing, strict=True)
    return [
        {"id": index, "name": name, "isthing": int(is_thing)}
        for index, (name, is_thing) in enumerate(pairs)
    ]


def _write_png(path: Path, picture: Image.Image) -> None:
    """Files are 8 % larger than with Pillow's default level, which takes twice as long."""
    with atomic_write(path) as part:
        picture.save(part, format="PNG", compress_level=4)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    with atomic_write(path) as part:
        text = json.dumps(content, indent=1, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")
