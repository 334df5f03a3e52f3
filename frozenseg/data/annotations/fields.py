"""Single values of JSON entries, with their types and ranges checked."""

import math
from collections.abc import Mapping
from typing import Any

from frozenseg.data.annotations.faults import BadEntry
from frozenseg.io.paths import refusal
from frozenseg.io.text import quoted

Entry = Mapping[str, Any]
MAX_SIDE = 1 << 20  # pixels; no image format that is read goes beyond it
MAX_SEGMENT_ID = (1 << 24) - 1  # three bytes of colour


def as_entry(value: object) -> Entry:
    """An entry that is a JSON object.

    Raises:
        BadEntry: it is something else.
    """
    if not isinstance(value, dict):
        raise BadEntry(f"must be an object, got {quoted(value)}")
    return value


def entries_of(entry: Entry, key: str) -> list[Any]:
    """A list.

    Raises:
        BadEntry: the key is missing or holds something else.
    """
    value = _required(entry, key)
    if not isinstance(value, list):
        raise BadEntry(f"must have a list '{key}', got {quoted(value)}")
    return value


def whole_number(entry: Entry, key: str, *, low: int, high: int) -> int:
    """Returns an integer of an entry.

    Args:
        entry: of the annotation file.
        key: of the value.
        low: smallest allowed value.
        high: largest allowed value.

    Raises:
        BadEntry: the key is missing or holds something else.
    """
    value = _required(entry, key)
    if type(value) is not int or not low <= value <= high:
        raise BadEntry(f"must have a '{key}' from {low} to {high}, got {quoted(value)}")
    return value


def text(entry: Entry, key: str) -> str:
    """Text that is not empty.

    Raises:
        BadEntry: the key is missing or holds something else.
    """
    value = _required(entry, key)
    if not isinstance(value, str) or not value.strip():
        raise BadEntry(f"must have text as '{key}', got {quoted(value)}")
    return value


def file_name(entry: Entry, key: str) -> str:
    """A relative path that does not climb out of its folder.

    Raises:
        BadEntry: the key is missing or holds something else.
    """
    value = text(entry, key)
    check_name(value)
    return value


def check_name(value: str) -> None:
    """Refuses a file name that is absolute or climbs out of its folder.

    Raises:
        BadEntry: as above.
    """
    reason = refusal(value)
    if reason is not None:
        raise BadEntry(f"names the file {quoted(value)}, which {reason}")


def identity(entry: Entry, key: str) -> int | str:
    """An image id: an integer, or text that is not empty.

    Raises:
        BadEntry: the key is missing or holds something else.
    """
    value = _required(entry, key)
    if type(value) is int or (isinstance(value, str) and value):
        return value
    raise BadEntry(f"must have a number or text as '{key}', got {quoted(value)}")


def flag(entry: Entry, key: str, *, default: bool = False) -> bool:
    """0, 1, true or false; the default where the key is missing.

    Raises:
        BadEntry: it is something else.
    """
    value = entry.get(key, default)
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    raise BadEntry(f"must have 0 or 1 as '{key}', got {quoted(value)}")


def stated_size(image: Entry) -> tuple[int, int] | None:
    """(height, width) of an image entry; None where it states neither.

    Raises:
        BadEntry: only one is stated, or one is no positive integer.
    """
    if "height" not in image and "width" not in image:
        return None
    height, width = (whole_number(image, key, low=1, high=MAX_SIDE) for key in ("height", "width"))
    return height, width


def is_finite(value: object) -> bool:
    """Returns True for an integer or a finite float, but not for a bool."""
    if type(value) is int:
        return True
    return type(value) is float and math.isfinite(value)


def _required(entry: Entry, key: str) -> Any:
    if key not in entry:
        raise BadEntry(f"has no '{key}'")
    return entry[key]
