"""COCO's instance format, which LVIS and prepared ADE20K share: polygons or run lengths."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frozenseg.data.annotations.categories import (
    MAX_CATEGORY_ID,
    check_categories,
    read_categories,
)
from frozenseg.data.annotations.faults import BadEntry, Faults
from frozenseg.data.annotations.fields import (
    as_entry,
    check_name,
    entries_of,
    flag,
    identity,
    stated_size,
    text,
    whole_number,
)
from frozenseg.data.annotations.geometry import check_mask, decode_mask
from frozenseg.data.classes import ClassList
from frozenseg.data.readers.files import load_json, read_image_entries, size_advice
from frozenseg.errors import UserError
from frozenseg.io.text import quoted
from frozenseg.structures import FederatedLabels, InstanceAnnotation

Entry = Mapping[str, Any]


def stem_of_file(image: Entry) -> str:
    """COCO: the stem of the image's file name."""
    return Path(text(image, "file_name")).stem


def stem_of_url(image: Entry) -> str:
    """LVIS: the folder and stem of COCO's image, from its address.

    Raises:
        BadEntry: the address has no folder.
    """
    address = text(image, "coco_url")
    folder, _, name = address.rpartition("/")
    folder = folder.rpartition("/")[2]
    if not folder or not name:
        raise BadEntry(f"must have an address as 'coco_url', with a folder, got {quoted(address)}")
    return f"{folder}/{Path(name).stem}"


def image_name(image: Entry) -> str:
    """Own data: the image's path, with its ending."""
    return text(image, "file_name")


@dataclass(frozen=True, kw_only=True)
class InstanceFile:
    """The file that lists a data set's objects, below the data root.

    Args:
        json: the annotation file.
        contiguous: categories are numbered as our classes, not by the data set's own ids.
        federated: images list the classes that are absent and those that are not marked
            exhaustively, as LVIS does.
        stem_of: what fills the ``{}`` of the image path, from an entry of ``images``.
    """

    json: str
    contiguous: bool = False
    federated: bool = False
    stem_of: Callable[[Entry], str] = stem_of_file


class InstanceReader:
    """The objects of each image, kept as text until they are asked for.

    Args:
        files: where the annotation is.
        root: the data root.
        classes: of the data set; the file's ``categories`` must agree with them.
        collect: leave out entries with a fault and keep the sentences in ``faults``.

    Raises:
        UserError: the JSON file is missing or broken, its categories are others, or, unless
            ``collect``, an entry has a fault.
    """

    def __init__(
        self, files: InstanceFile, *, root: Path, classes: ClassList, collect: bool = False
    ) -> None:
        self.json, self._files = root / files.json, files
        self._class_ids = classes.class_ids(contiguous=files.contiguous)
        content = load_json(self.json, lists=["images", "annotations"])
        check_categories(
            read_categories(content, path=self.json),
            classes,
            path=self.json,
            contiguous=files.contiguous,
        )
        faults = Faults(self.json, collect=collect)
        self._stems: dict[int | str, str] = {}
        self._sizes: dict[int | str, tuple[int, int] | None] = {}
        self._federated: dict[int | str, FederatedLabels] = {}
        images = read_image_entries(content, faults)
        self._read_images(images, faults)
        self._objects = self._read_objects(content["annotations"], set(images), faults)
        self.image_ids, self.stems = list(self._stems), list(self._stems.values())
        self.faults = tuple(faults.found)

    def _read_images(self, images: Mapping[int | str, Entry], faults: Faults) -> None:
        for image_id, image in images.items():
            with faults.entry(f"image {image_id!r}"):
                stem = self._files.stem_of(image)
                check_name(stem)
                if self._files.federated:
                    self._federated[image_id] = FederatedLabels(
                        absent=self._class_list(image, "neg_category_ids"),
                        incomplete=self._class_list(image, "not_exhaustive_category_ids"),
                    )
                self._stems[image_id] = stem
                self._sizes[image_id] = stated_size(image)

    def _read_objects(
        self, annotations: Sequence[Any], listed: set[int | str], faults: Faults
    ) -> dict[int | str, bytes]:
        grouped: dict[int | str, list[Entry]] = {key: [] for key in self._stems}
        known_ids: set[int | str] = set()
        for place, annotation in enumerate(annotations):
            with faults.entry(f"annotations[{place}]"):
                entry, image_id = self._read_object(as_entry(annotation), listed)
                if "id" in annotation:
                    object_id = identity(annotation, "id")
                    if object_id in known_ids:
                        raise BadEntry(f"has the id {object_id!r} of another object")
                    known_ids.add(object_id)
                if image_id in grouped:  # its image may have been left out
                    grouped[image_id].append({"place": place, **entry})
        return {key: json.dumps(objects).encode() for key, objects in grouped.items()}

    def _read_object(self, entry: Entry, listed: set[int | str]) -> tuple[Entry, int | str]:
        """Returns the fields to keep of one object, and the id of its image.

        Raises:
            BadEntry: a value is missing or wrong.
        """
        image_id = identity(entry, "image_id")
        if image_id not in listed:
            raise BadEntry(f"is an object in image {image_id!r}, which 'images' does not list")
        try:
            category = whole_number(entry, "category_id", low=0, high=MAX_CATEGORY_ID)
            if category not in self._class_ids:
                raise BadEntry(f"has the unknown category {category}")
            if "segmentation" not in entry:
                raise BadEntry("has no 'segmentation'")
            size = self._sizes.get(image_id)
            if size is not None:
                check_mask(entry["segmentation"], size)
            kept = {
                "class_id": self._class_ids[category],
                "segmentation": entry["segmentation"],
                "is_crowd": flag(entry, "iscrowd"),
            }
        except BadEntry as error:
            which = f"id {quoted(entry['id'])}, " if "id" in entry else ""
            raise BadEntry(f"({which}image {image_id!r}) {error}") from error
        return kept, image_id

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, image_id: int | str, size: tuple[int, int]) -> tuple[InstanceAnnotation, ...]:
        """The objects of one image of ``size`` (height, width); areas that are stated are not read.

        Raises:
            UserError: the file does not list the image, or states or implies another size.
        """
        if image_id not in self._objects:
            raise UserError(
                f"{self.json} does not list image {image_id}: is it from another split?"
            )
        stated = self._sizes[image_id]
        if stated is not None and stated != size:
            raise UserError(
                f"{self.json} states {stated[1]} x {stated[0]} pixels for image {image_id!r}, but "
                f"it has {size[1]} x {size[0]}: {size_advice(stated, size)}"
            )
        annotations = []
        for each in json.loads(self._objects[image_id]):
            try:
                mask = decode_mask(each["segmentation"], size)
            except BadEntry as error:
                raise UserError(
                    f"{self.json}: annotations[{each['place']}] (image {image_id!r}) {error}"
                ) from error
            annotations.append(
                InstanceAnnotation(
                    class_id=each["class_id"],
                    mask=torch.from_numpy(mask),
                    is_crowd=each["is_crowd"],
                )
            )
        return tuple(annotations)

    def federated(self, image_id: int | str) -> FederatedLabels | None:
        """The absent and incomplete classes of an LVIS image; None for other data sets."""
        return self._federated.get(image_id)

    def _class_list(self, image: Entry, key: str) -> tuple[int, ...]:
        """Classes of a list of category ids.

        Raises:
            BadEntry: the list is missing, or an id is unknown.
        """
        ids = entries_of(image, key)
        unknown = [each for each in ids if type(each) is not int or each not in self._class_ids]
        if unknown:
            raise BadEntry(f"has the unknown category {quoted(unknown[0])} in '{key}'")
        return tuple(self._class_ids[each] for each in ids)
