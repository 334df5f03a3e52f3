"""Predictions in the formats of official scorers: COCO, LVIS, Cityscapes and ADE20K."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as rle

from frozenseg.evaluation.evaluators import NOT_REQUESTED, things_among
from frozenseg.io.files import atomic_write
from frozenseg.io.writing import disk_gate, write_text
from frozenseg.structures import Result, Sample

Entry = dict[str, Any]
"""One image's part of a format's common JSON file."""


class PredictionWriter(Protocol):
    """Writes results in one format.

    Files of an image depend on this image only, and the common file on the entries in the order of
    the data set, so the number of processes and interruptions do not change the files.
    """

    name: str

    def write(self, result: Result, sample: Sample) -> list[Entry]:
        """Writes the files of one image and returns its entries of the common file.

        Raises:
            UserError: a file cannot be written.
        """
        ...

    def finish(self, entries: Sequence[Entry]) -> None:
        """Writes the common file.

        Raises:
            UserError: the file cannot be written.
        """
        ...


class CocoPanoptic:
    """``panoptic.json`` and ``panoptic/*.png``, whose colours encode segment ids.

    Args:
        folder: for the files.
        category_ids: (K,) ids of the classes in the data set's annotation file.
        names: (K,) class names.
        is_thing: (K,) True for things.
    """

    name = "coco_panoptic"

    def __init__(
        self,
        folder: Path,
        *,
        category_ids: Sequence[int],
        names: Sequence[str],
        is_thing: Sequence[bool],
    ) -> None:
        self.folder, self.category_ids = folder, category_ids
        self.categories = [
            {"id": category_id, "name": name, "isthing": int(thing)}
            for category_id, name, thing in zip(category_ids, names, is_thing, strict=True)
        ]

    def write(self, result: Result, sample: Sample) -> list[Entry]:
        assert result.panoptic is not None, NOT_REQUESTED
        ids = result.panoptic.ids.numpy(force=True).astype(np.int64)
        colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1)
        file_name = f"{file_stem(sample.image_id)}.png"
        _write_png(self.folder / "panoptic" / file_name, colors.astype(np.uint8))
        segments = [
            {
                "id": segment.id,
                "category_id": self.category_ids[segment.class_id],
                "isthing": int(segment.is_thing),
                "area": int((ids == segment.id).sum()),
            }
            for segment in result.panoptic.segments
        ]
        height, width = ids.shape
        image = {"id": sample.image_id, "file_name": file_name, "height": height, "width": width}
        annotation = {
            "image_id": sample.image_id,
            "file_name": file_name,
            "segments_info": segments,
        }
        return [{"image": image, "annotation": annotation}]

    def finish(self, entries: Sequence[Entry]) -> None:
        content = {
            "images": [entry["image"] for entry in entries],
            "annotations": [entry["annotation"] for entry in entries],
            "categories": self.categories,
        }
        write_text(self.folder / "panoptic.json", json.dumps(content))


class CocoInstances:
    """``instances.json``: the results list of COCO and LVIS, with masks as run lengths.

    Args:
        folder: for the file.
        category_ids: (K,) ids of the classes in the data set's annotation file.
        is_thing: (K,) True for things; masks of other classes are not written.
    """

    name = "instances"

    def __init__(
        self, folder: Path, *, category_ids: Sequence[int], is_thing: Sequence[bool]
    ) -> None:
        self.folder, self.category_ids = folder, category_ids
        self.is_thing = torch.tensor(is_thing)

    def write(self, result: Result, sample: Sample) -> list[Entry]:
        assert result.instances is not None, NOT_REQUESTED
        class_ids, scores, masks, _ = things_among(result.instances, self.is_thing)
        return [
            {
                "image_id": sample.image_id,
                "category_id": self.category_ids[class_id],
                "segmentation": _run_lengths(mask),
                "score": score,
            }
            for class_id, score, mask in zip(
                class_ids.tolist(), scores.tolist(), masks.numpy(force=True), strict=True
            )
        ]

    def finish(self, entries: Sequence[Entry]) -> None:
        write_text(self.folder / "instances.json", json.dumps(list(entries)))


class LabelMaps:
    """``semantic/*.png``: the label of the best class of each pixel, in 8 or 16 bits.

    Args:
        folder: for the files.
        labels: (K,) value of each class: Cityscapes' label ids, ADE20K's 1 to 150, or class ids.
    """

    name = "semantic"

    def __init__(self, folder: Path, *, labels: Sequence[int]) -> None:
        self.folder = folder
        self.labels = np.array(labels, dtype=np.uint8 if max(labels) < 256 else np.uint16)

    def write(self, result: Result, sample: Sample) -> list[Entry]:
        assert result.semantic is not None, NOT_REQUESTED
        class_ids = result.semantic.numpy(force=True)
        path = self.folder / "semantic" / f"{file_stem(sample.image_id)}.png"
        _write_png(path, self.labels[class_ids])
        return []

    def finish(self, entries: Sequence[Entry]) -> None:
        """There is no common file."""


class CityscapesInstances:
    """``instances/*.txt`` with one line per object (mask file, label id, score), and the masks.

    Args:
        folder: for the files.
        labels: (K,) Cityscapes' label id of each class.
        is_thing: (K,) True for things; masks of other classes are not written.
    """

    name = "cityscapes_instances"

    def __init__(self, folder: Path, *, labels: Sequence[int], is_thing: Sequence[bool]) -> None:
        self.folder, self.labels = folder / "instances", labels
        self.is_thing = torch.tensor(is_thing)

    def write(self, result: Result, sample: Sample) -> list[Entry]:
        assert result.instances is not None, NOT_REQUESTED
        class_ids, scores, masks, _ = things_among(result.instances, self.is_thing)
        stem, lines = file_stem(sample.image_id), []
        for index, (class_id, score) in enumerate(
            zip(class_ids.tolist(), scores.tolist(), strict=True)
        ):
            mask_name = f"masks/{stem}_{index}.png"
            mask = masks[index].numpy(force=True).astype(np.uint8) * 255
            _write_png(self.folder / mask_name, mask)
            lines.append(f"{mask_name} {self.labels[class_id]} {score!r}\n")
        write_text(self.folder / f"{stem}.txt", "".join(lines))
        return []

    def finish(self, entries: Sequence[Entry]) -> None:
        """There is no common file."""


def file_stem(image_id: int | str) -> str:
    """Returns a file name for an image id: distinct ids give distinct names without a folder."""
    return f"{image_id:012d}" if isinstance(image_id, int) else quote(image_id, safe=" ")


def entries_as_array(entries: Sequence[Entry]) -> np.ndarray:
    """Returns entries as the (N,) bytes of a JSON list."""
    return np.frombuffer(json.dumps(list(entries)).encode(), dtype=np.uint8)


def entries_from_array(content: np.ndarray) -> list[Entry]:
    """Returns the entries that ``entries_as_array`` stored."""
    return json.loads(content.tobytes())


def _run_lengths(mask: np.ndarray) -> Entry:
    """Returns an (H, W) bool mask in COCO's compressed run lengths."""
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    height, width = mask.shape
    counts = cast(bytes, encoded["counts"])
    return {"size": [height, width], "counts": counts.decode("ascii")}


def _write_png(path: Path, pixels: np.ndarray) -> None:
    with disk_gate(path), atomic_write(path) as part:
        Image.fromarray(pixels).save(part, format="PNG")
