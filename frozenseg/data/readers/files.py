"""What all readers share: JSON that may be broken, files that may be missing."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from frozenseg.errors import UserError


def load_json(path: Path, *, lists: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The named lists of a JSON file in COCO's style.

    Raises:
        UserError: the file is missing, broken, or lacks one of the lists.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"no annotation file {path}: see datasets/README.md") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): fetch or make it again") from error
    for key in lists:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{path} has no list '{key}': give an annotation file in COCO's format")
    return {key: content[key] for key in lists}


@contextmanager
def complete_entries(path: Path) -> Iterator[None]:
    """Turns the lack of a key in an entry of ``path`` into a UserError."""
    try:
        yield
    except KeyError as error:
        raise UserError(
            f"{path} has an entry without {error}: give an annotation file in COCO's format"
        ) from error


def check_unique(ids: Iterable[int | str], *, path: Path, what: str) -> None:
    """Raises a UserError that names the first id that stands twice."""
    seen: set[int | str] = set()
    for each in ids:
        if each in seen:
            raise UserError(f"{path} has two {what} with id {each}: remove one")
        seen.add(each)


def missing_files(paths: Iterable[Path]) -> list[Path]:
    """Those that do not exist; each folder is listed once, however many files it should hold."""
    listing = cache(_names_in)
    return [path for path in paths if path.name not in listing(path.parent)]


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
