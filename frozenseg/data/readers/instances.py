"""COCO's instance format, which LVIS and prepared ADE20K share: polygons or run lengths."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle

from frozenseg.data.readers.files import check_unique, complete_entries, load_json
from frozenseg.errors import UserError
from frozenseg.structures import FederatedLabels, InstanceAnnotation


def stem_of_file(image: Mapping[str, Any]) -> str:
    return Path(image["file_name"]).stem


def stem_of_url(image: Mapping[str, Any]) -> str:
    """LVIS: COCO's folder and file, as the picture's address has them."""
    folder, name = image["coco_url"].split("/")[-2:]
    return f"{folder}/{Path(name).stem}"


@dataclass(frozen=True, kw_only=True)
class InstanceFile:
    """Where a data set's objects are listed, below the data root.

    Args:
        json: the annotation file.
        contiguous: categories are numbered like our classes, not by the data set's own ids.
        stem_of: the picture's path without its ending, from an entry of ``images``.
    """

    json: str
    contiguous: bool = False
    stem_of: Callable[[Mapping[str, Any]], str] = stem_of_file


class InstanceReader:
    """The objects of each image, kept as text until they are asked for.

    Args:
        class_ids: contiguous class by category id.

    Raises:
        UserError: the file is missing or broken, an image id stands twice, or an object has an
            unknown category or image.
    """

    def __init__(self, files: InstanceFile, *, root: Path, class_ids: Mapping[int, int]) -> None:
        self.json, self._class_ids = root / files.json, class_ids
        with complete_entries(self.json):
            self._read_json(files)

    def _read_json(self, files: InstanceFile) -> None:
        content = load_json(self.json, lists=["images", "annotations"])
        images = content["images"]
        self.image_ids = [image["id"] for image in images]
        check_unique(self.image_ids, path=self.json, what="images")
        self.stems = [files.stem_of(image) for image in images]
        self._federated = {
            image["id"]: FederatedLabels(
                absent=tuple(map(self._class_id, image["neg_category_ids"])),
                incomplete=tuple(map(self._class_id, image["not_exhaustive_category_ids"])),
            )
            for image in images
            if "neg_category_ids" in image
        }
        grouped: dict[int | str, list[dict[str, Any]]] = {key: [] for key in self.image_ids}
        for annotation in content["annotations"]:
            if annotation["image_id"] not in grouped:
                raise UserError(
                    f"{self.json} has an object in image {annotation['image_id']}, which it does "
                    "not list: fetch or make it again"
                )
            grouped[annotation["image_id"]].append(
                {
                    "class_id": self._class_id(annotation["category_id"]),
                    "segmentation": annotation["segmentation"],
                    "iscrowd": annotation.get("iscrowd", 0),
                    "area": annotation.get("area"),
                }
            )
        self._objects = {key: json.dumps(objects).encode() for key, objects in grouped.items()}

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, image_id: int | str, size: tuple[int, int]) -> tuple[InstanceAnnotation, ...]:
        """The objects of one image of ``size`` (height, width).

        Raises:
            UserError: the file does not list the image, or has masks of another size.
        """
        if image_id not in self._objects:
            raise UserError(f"{self.json} does not list image {image_id}: is it of another split?")
        annotations = []
        for each in json.loads(self._objects[image_id]):
            mask = decode_mask(each["segmentation"], size)
            if mask.shape != size:
                raise UserError(
                    f"{self.json} has a mask of {mask.shape[1]} x {mask.shape[0]} pixels for image "
                    f"{image_id}, which has {size[1]} x {size[0]}: is it of another data set?"
                )
            annotations.append(
                InstanceAnnotation(
                    class_id=each["class_id"],
                    mask=torch.from_numpy(mask),
                    is_crowd=bool(each["iscrowd"]),
                    area=each["area"],
                )
            )
        return tuple(annotations)

    def federated(self, image_id: int | str) -> FederatedLabels | None:
        """What LVIS says of classes beside the objects; None elsewhere."""
        return self._federated.get(image_id)

    def _class_id(self, category_id: int) -> int:
        if category_id not in self._class_ids:
            raise UserError(
                f"{self.json} has the unknown category {category_id}: is it of another data set?"
            )
        return self._class_ids[category_id]


def decode_mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask of COCO polygons, or of run lengths in either form."""
    height, width = size
    if not segmentation:
        return np.zeros(size, dtype=bool)
    if isinstance(segmentation, list):
        runs = rle.merge(rle.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = rle.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    return rle.decode(runs).astype(bool)
