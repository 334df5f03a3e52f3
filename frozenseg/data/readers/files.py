"""Helpers of all readers: JSON that may be invalid, image entries, missing files."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from frozenseg.data.annotations.faults import BadEntry, Faults
from frozenseg.data.annotations.fields import as_entry, identity, stated_size, text
from frozenseg.errors import UserError
from frozenseg.io.documents import read_json
from frozenseg.io.files import is_file


def load_json(path: Path, *, lists: Sequence[str]) -> dict[str, Any]:
    """A JSON file in COCO's style.

    Raises:
        UserError: the file is missing, broken, or lacks one of the lists.
    """
    if not is_file(path):
        raise UserError(
            f"no annotation file {path}: `frozenseg datasets check NAME` says where to get it"
        )
    content = read_json(path)
    for key in lists:
        if not isinstance(content.get(key), list):
            raise UserError(f"{path} has no list '{key}': give an annotation file in COCO's format")
    return content


def read_image_entries(
    content: Mapping[str, Any], faults: Faults
) -> dict[int | str, Mapping[str, Any]]:
    """The sound entries of ``images`` by id, in their order; what is wrong is reported."""
    found: dict[int | str, Mapping[str, Any]] = {}
    for place, entry in enumerate(content["images"]):
        with faults.entry(f"images[{place}]"):
            image_id = identity(as_entry(entry), "id")
            stated_size(entry)
            if "file_name" in entry:
                text(entry, "file_name")
            if image_id in found:
                raise BadEntry(f"has the id {image_id!r} of another image")
            found[image_id] = entry
    return found


def size_advice(annotated: tuple[int, int], image: tuple[int, int]) -> str:
    """A possible reason why an annotation and its image differ in (height, width)."""
    if annotated == image[::-1]:
        return (
            "the image's EXIF tag probably turns it, but not its masks (see 'exif' "
            "in `frozenseg datasets check --help`)"
        )
    return "they do not belong together"


def missing_files(paths: Iterable[Path]) -> list[Path]:
    """Those that do not exist; each folder is listed once, however many files it should hold."""
    listing = cache(_names_in)
    return [path for path in paths if path.name not in listing(path.parent)]


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:  # there is none, or it cannot be listed
        return frozenset()
