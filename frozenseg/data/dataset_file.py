"""Data set files: own data described in about ten lines of YAML, see docs/own_data.md."""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from frozenseg.data.file_classes import MAX_LABEL, read_classes
from frozenseg.data.readers import instances as instance_format
from frozenseg.data.readers import panoptic as panoptic_format
from frozenseg.data.readers.instances import InstanceFile
from frozenseg.data.readers.label_maps import LabelMaps
from frozenseg.data.readers.panoptic import PanopticFiles
from frozenseg.data.readers.samples import Exif, Task
from frozenseg.data.specs import DatasetSpec
from frozenseg.errors import UserError
from frozenseg.io.documents import read_yaml_mapping
from frozenseg.io.files import is_file, user_path
from frozenseg.io.paths import listed_files, unusable
from frozenseg.io.text import quoted

KEYS = (
    *("name", "title", "root", "images", "panoptic", "instances", "labels"),
    *("classes", "unseen", "ignore_label", "test_size", "exif"),
)
_MAX_SIDE = 1 << 16  # pixels, of the test size
_LABEL_ENDINGS = (".png", ".tif", ".tiff", ".bmp")


def is_dataset_file(name: str) -> bool:
    """Returns True for a path that ends in .yaml or .yml, whether the file exists or not."""
    return name.lower().endswith((".yaml", ".yml"))


def read_dataset_file(path: Path) -> DatasetSpec:
    """The record of a data set file; its annotation files are read for their categories.

    Raises:
        UserError: the file is missing, no YAML, has an unknown key or a wrong value, or its class
            list and the annotation's categories disagree.
    """
    path = Path(os.path.abspath(path))
    parts = _Parts(path, _read_keys(path))
    return _parsed(path, tuple(map(_state, (path, *parts.json_files()))))


@lru_cache(maxsize=32)
def _parsed(path: Path, _: object) -> DatasetSpec:
    """The record, made once for each state of the files."""
    return _Parts(path, _read_keys(path)).spec()


def _state(path: Path) -> tuple[float, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@dataclass(frozen=True)
class _Parts:
    """A data set file's mapping on its way to a record; wrong values raise a UserError."""

    path: Path
    content: Mapping[str, Any]

    def spec(self) -> DatasetSpec:
        tasks = self._tasks()
        labels, ignore_value = self._place("labels", "maps"), self._ignore_value()
        classes = read_classes(
            self.content.get("classes"),
            source=self.path,
            json_files=self.json_files(),
            ignore_value=None if labels is None else ignore_value,
        )
        short_side, long_side = self._test_size()
        return DatasetSpec(
            name=self._name(),
            title=self._text("title") or self._name(),
            classes=classes,
            unseen=self._unseen(classes.names),
            images=self._images(),
            panoptic=self._panoptic(),
            semantic=None if labels is None else _labels(labels, classes.ids, ignore_value),
            instances=self._instances(),
            tasks=tasks,
            short_side=short_side,
            long_side=long_side,
            exif=self._exif(),
            source=self.path,
        )

    def json_files(self) -> list[Path]:
        """The annotation files; that of the panoptic annotation first."""
        places = (self._place(key, "json") for key in ("panoptic", "instances"))
        return [Path(place) for place in places if place is not None]

    def _tasks(self) -> tuple[Task, ...]:
        """Returns the tasks that the annotations support; label maps do not separate things."""
        given = {key for key, value in self.content.items() if value is not None}
        if "panoptic" in given or {"instances", "labels"} <= given:
            return ("panoptic", "semantic", "instance")
        if "instances" in given:
            return ("panoptic", "instance")
        if "labels" in given:
            return ("semantic",)
        raise self._wrong("it has no annotation: give 'panoptic', 'instances' or 'labels'")

    def _panoptic(self) -> PanopticFiles | None:
        json, maps = self._place("panoptic", "json"), self._place("panoptic", "maps")
        if json is None or maps is None:
            return None
        if self._has_pattern():
            return PanopticFiles(json=json, maps=maps)
        return PanopticFiles(json=json, maps=maps, stem_of=panoptic_format.image_name)

    def _instances(self) -> InstanceFile | None:
        json = self._place("instances", "json")
        if json is None:
            return None
        if self._has_pattern():
            return InstanceFile(json=json)
        return InstanceFile(json=json, stem_of=instance_format.image_name)

    def _images(self) -> str:
        place = self._join("images", self.content.get("images"))
        return place if "{}" in place else f"{place}/{{}}"

    def _has_pattern(self) -> bool:
        return "{}" in str(self.content.get("images"))

    def _place(self, key: str, part: str) -> str | None:
        """The absolute path that a key, or a part of its mapping, gives; None without the key."""
        value = self.content.get(key)
        if value is None:
            return None
        parts = {"panoptic": {"json", "maps"}}.get(key, {part})
        if isinstance(value, str) and len(parts) == 1:
            value = {part: value}
        if not isinstance(value, dict) or value.keys() != parts:
            wanted = " and ".join(sorted(parts))
            raise self._wrong(f"'{key}' must have {wanted}, got {quoted(value)}")
        return self._join(key, value[part])

    def _join(self, key: str, value: object) -> str:
        root = self._text("root") or "."
        if not isinstance(value, str) or unusable(value) or unusable(root):
            raise self._wrong(f"'{key}' must be a path, got {quoted(value)} below {quoted(root)}")
        place = self.path.parent / user_path(root) / user_path(value)
        text = os.path.normpath(place)
        if text.count("{}") > (key in ("images", "labels")):
            raise self._wrong(f"'{key}' must not have braces, got {quoted(text)}")
        return text

    def _name(self) -> str:
        name = self._text("name") or self.path.stem
        if not re.fullmatch(r"\w[\w .-]{0,99}", name):
            raise self._wrong(
                f"'name' must consist of letters, digits, '.', '-', '_', got {quoted(name)}"
            )
        return name

    def _text(self, key: str) -> str | None:
        value = self.content.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(f"'{key}' must be text, got {quoted(value)}")
        return value

    def _unseen(self, names: tuple[str, ...]) -> tuple[str, ...] | None:
        value = self.content.get("unseen")
        if value is None:
            return None
        if not isinstance(value, list) or not all(each in names for each in value):
            raise self._wrong(
                f"'unseen' must be a list of classes of the annotation, got {quoted(value)}"
            )
        if len(set(value)) == len(names):
            raise self._wrong("'unseen' lists every class: leave out at least one")
        return tuple(value)

    def _ignore_value(self) -> int:
        value = self.content.get("ignore_label", 255)
        if type(value) is not int or not 0 <= value <= MAX_LABEL:
            raise self._wrong(f"'ignore_label' must be from 0 to {MAX_LABEL}, got {quoted(value)}")
        return value

    def _test_size(self) -> tuple[int, int] | tuple[None, None]:
        value = self.content.get("test_size")
        if value is None:
            return None, None
        sound = isinstance(value, list) and len(value) == 2
        if not sound or not all(type(each) is int and 1 <= each <= _MAX_SIDE for each in value):
            raise self._wrong(
                f"'test_size' must be [short side, long side] in pixels, got {quoted(value)}"
            )
        return min(value), max(value)

    def _exif(self) -> Exif:
        value = self.content.get("exif", "ask")
        if value not in ("ask", "apply", "ignore"):
            raise self._wrong(f"'exif' must be apply or ignore, got {quoted(value)}")
        return value

    def _wrong(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}; see `frozenseg datasets check --help`")


def _labels(place: str, ids: tuple[int, ...], ignore_value: int) -> LabelMaps:
    """Label maps whose values are the classes' ids."""
    if "{}" not in place:
        endings = {path.suffix.lower(): path.suffix for path in listed_files(Path(place))}
        ending = next((endings[each] for each in _LABEL_ENDINGS if each in endings), ".png")
        place = f"{place}/{{}}{ending}"
    return LabelMaps(
        path=place,
        ignore_label=255 if len(ids) <= 255 else MAX_LABEL,
        ignore_value=ignore_value,
        own_ids=-1,
        one_bit=1 if set(ids) <= {0, 1} else 255,
    )


def _read_keys(path: Path) -> Mapping[str, Any]:
    if not is_file(path):
        raise UserError(f"no data set file {path}: check the path")
    content = read_yaml_mapping(path)
    for key in content:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1) or KEYS
            raise UserError(
                f"{path} has the unknown key {quoted(key)}: did you mean '{near[0]}'? See "
                "`frozenseg datasets check --help`"
            )
    return content
