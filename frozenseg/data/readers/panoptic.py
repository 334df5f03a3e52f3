"""COCO's panoptic format: a JSON file, and a colour PNG per image whose pixels are segment ids."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from frozenseg.data.annotations.categories import MAX_CATEGORY_ID, check_categories, read_categories
from frozenseg.data.annotations.faults import BadEntry, Faults
from frozenseg.data.annotations.fields import (
    MAX_SEGMENT_ID,
    as_entry,
    check_name,
    entries_of,
    file_name,
    flag,
    identity,
    text,
    whole_number,
)
from frozenseg.data.classes import ClassList
from frozenseg.data.images import read_colors
from frozenseg.data.readers.files import load_json, read_image_entries
from frozenseg.errors import UserError
from frozenseg.io.paths import inside
from frozenseg.structures import PanopticMap, Segment

Entry = Mapping[str, Any]


def stem_of_file(annotation: Entry, image: Entry) -> str:
    """COCO and most others: an image has the stem of its segment map."""
    return Path(annotation["file_name"]).stem


def stem_of_city(annotation: Entry, image: Entry) -> str:
    """Cityscapes: images are in a folder per city, with which their id begins."""
    return f"{str(annotation['image_id']).split('_')[0]}/{annotation['image_id']}"


def image_name(annotation: Entry, image: Entry) -> str:
    """Own data: the path of the image as its entry states it, with its ending."""
    return text(image, "file_name")


@dataclass(frozen=True, kw_only=True)
class PanopticFiles:
    """The location of a data set's panoptic annotation below the data root.

    Args:
        json: the annotation file.
        maps: the folder of segment maps.
        contiguous: categories are numbered as our classes, not by the data set's own ids.
        void_categories: segments of these count as unlabelled.
        stem_of: what fills the ``{}`` of the image path, from an annotation and its image entry.
    """

    json: str
    maps: str
    contiguous: bool = False
    void_categories: tuple[int, ...] = ()
    stem_of: Callable[[Entry, Entry], str] = stem_of_file


class _Row(NamedTuple):
    """One sound annotation; the lists have one entry per segment."""

    image_id: int | str
    stem: str
    file_name: str
    ids: list[int]
    classes: list[int]
    crowd: list[bool]
    void: list[int]


class PanopticReader:
    """Segments of all images in a few arrays, so that worker processes share them; maps on demand.

    Areas that the file states are not read: those of ``read`` are counted.

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
        self, files: PanopticFiles, *, root: Path, classes: ClassList, collect: bool = False
    ) -> None:
        self.json, self.maps = root / files.json, root / files.maps
        self.is_thing = classes.vocabulary.is_thing
        content = load_json(self.json, lists=["images", "annotations"])
        check_categories(
            read_categories(content, path=self.json),
            classes,
            path=self.json,
            contiguous=files.contiguous,
            void=files.void_categories,
        )
        faults = Faults(self.json, collect=collect)
        rows = _read_rows(content, files, classes.class_ids(contiguous=files.contiguous), faults)
        self.faults = tuple(faults.found)
        self.image_ids = [row.image_id for row in rows]
        self.stems = [row.stem for row in rows]
        self.file_names = [row.file_name for row in rows]
        self._void_ids = [row.void for row in rows]
        self._bounds = np.cumsum([0, *(len(row.ids) for row in rows)])
        self._ids = np.array([each for row in rows for each in row.ids], dtype=np.int32)
        self._classes = np.array([each for row in rows for each in row.classes], dtype=np.int16)
        self._crowd = np.array([each for row in rows for each in row.crowd], dtype=bool)

    def __len__(self) -> int:
        return len(self.image_ids)

    def map_file(self, index: int, *, links: bool = True) -> Path:
        """Returns the path of one image's segment map.

        Raises:
            UserError: the name, or with ``links`` a link, leads out of the folder of maps.
        """
        return inside(self.maps, self.file_names[index], source=self.json, links=links)

    def read(self, index: int) -> PanopticMap:
        """One image's map, with the segments' areas in pixels.

        Raises:
            UserError: the PNG is missing, damaged, no colour image, or has an id that is not in the
                JSON file.
        """
        path = self.map_file(index)
        ids = ids_of_colors(read_colors(path), path=path)
        if self._void_ids[index]:
            ids[np.isin(ids, self._void_ids[index])] = 0
        areas = pixels_of(ids)
        part = slice(self._bounds[index], self._bounds[index + 1])
        columns = (self._ids[part], self._classes[part], self._crowd[part])
        segments = tuple(
            Segment(
                id=segment_id,
                class_id=class_id,
                is_thing=self.is_thing[class_id],
                is_crowd=crowd,
                area=areas.pop(segment_id, 0),
            )
            for segment_id, class_id, crowd in zip(
                *(column.tolist() for column in columns), strict=True
            )
        )
        areas.pop(0, None)
        if areas:
            raise UserError(
                f"{path} has segment {min(areas)}, which {self.json.name} does not list for image "
                f"{self.image_ids[index]}: fetch or make both again"
            )
        return PanopticMap(torch.from_numpy(ids), segments)


def ids_of_colors(colors: np.ndarray, *, path: Path) -> np.ndarray:
    """(H, W) int32 segment ids of an (H, W, 3) colour map: red + 256 green + 65536 blue.

    Raises:
        UserError: it is no such map.
    """
    if colors.ndim != 3 or colors.shape[2] < 3 or colors.dtype != np.uint8:
        raise UserError(f"{path} is not a colour image: a segment map is an RGB PNG of 8 bits")
    bytes_of_ids = np.zeros((*colors.shape[:2], 4), dtype=np.uint8)  # lowest first
    bytes_of_ids[..., :3] = colors[..., :3]
    return bytes_of_ids.view("<i4")[..., 0].astype(np.int32, copy=False)


def colors_of_ids(ids: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 colours of (H, W) segment ids."""
    return np.stack([ids & 255, (ids >> 8) & 255, (ids >> 16) & 255], axis=-1).astype(np.uint8)


def pixels_of(ids: np.ndarray) -> dict[int, int]:
    """The number of pixels of each value; sorts runs of equal values, which are far fewer."""
    flat = ids.ravel()
    starts = np.flatnonzero(np.append(True, flat[1:] != flat[:-1])[: len(flat)])
    lengths = np.diff(np.append(starts, len(flat)))
    values, rows = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(rows, weights=lengths, minlength=len(values)).astype(np.int64)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _read_rows(
    content: Mapping[str, Any], files: PanopticFiles, class_ids: Mapping[int, int], faults: Faults
) -> list[_Row]:
    images = read_image_entries(content, faults)
    parser = _Parser(images, files, class_ids)
    rows: dict[int | str, _Row] = {}
    mentioned: set[int | str] = set()
    for place, entry in enumerate(content["annotations"]):
        with faults.entry(f"annotations[{place}]"):
            image_id = identity(as_entry(entry), "image_id")
            mentioned.add(image_id)
            if image_id in rows:
                raise BadEntry(f"is the second one for image {image_id!r}")
            rows[image_id] = parser.row(entry, image_id)
    for image_id in images.keys() - mentioned:
        faults.report(f"image {image_id!r} has no annotation")
    return list(rows.values())


class _Parser:
    """Checks annotations, one by one.

    Args:
        images: entries of ``images`` by id.
        files: says how images are named, and what counts as unlabelled.
        class_ids: class by category id.
    """

    def __init__(
        self,
        images: Mapping[int | str, Entry],
        files: PanopticFiles,
        class_ids: Mapping[int, int],
    ) -> None:
        self.images, self.class_ids = images, class_ids
        self.void, self.stem_of = frozenset(files.void_categories), files.stem_of

    def row(self, entry: Entry, image_id: int | str) -> _Row:
        """The annotation of an image.

        Raises:
            BadEntry: a value is missing or wrong.
        """
        if image_id not in self.images:
            raise BadEntry(f"is for image {image_id!r}, which 'images' does not list")
        name = file_name(entry, "file_name")
        stem = self.stem_of(entry, self.images[image_id])
        check_name(stem)
        row = _Row(image_id, stem, name, [], [], [], [])
        for number, info in enumerate(entries_of(entry, "segments_info")):
            try:
                self._add(row, info)
            except BadEntry as error:
                raise BadEntry(f"(image {image_id!r}) segments_info[{number}] {error}") from error
        ids = [*row.ids, *row.void]
        if len(set(ids)) < len(ids):
            twice = next(each for each in ids if ids.count(each) > 1)
            raise BadEntry(f"(image {image_id!r}) lists segment {twice} twice")
        return row

    def _add(self, row: _Row, info: object) -> None:
        entry = as_entry(info)
        segment_id = whole_number(entry, "id", low=1, high=MAX_SEGMENT_ID)
        category = whole_number(entry, "category_id", low=0, high=MAX_CATEGORY_ID)
        is_crowd = flag(entry, "iscrowd")
        if category in self.void:
            row.void.append(segment_id)
            return
        if category not in self.class_ids:
            raise BadEntry(f"(segment {segment_id}) has the unknown category {category}")
        row.ids.append(segment_id)
        row.classes.append(self.class_ids[category])
        row.crowd.append(is_crowd)
