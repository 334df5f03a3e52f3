"""The tables that ship with the class lists: annotation ids, official names, colours."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

CLASSES = Path(__file__).with_name("classes")

Color = tuple[int, int, int]


@dataclass(frozen=True)
class ClassRow:
    """One class of a data set, as in the data set's own files."""

    dataset_id: int  # the value in the annotation files
    name: str  # official, with official commas
    color: Color | None
    frequency: str = ""  # LVIS: r, c or f, rare, common or frequent in its training images


@cache
def class_table(name: str) -> tuple[ClassRow, ...]:
    """Returns annotation ids, official names and colours of a built-in vocabulary, in order."""
    lines = (CLASSES / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return tuple(_class_row(*line.split("\t")) for line in lines)


def _class_row(dataset_id: str, name: str, color: str, frequency: str = "") -> ClassRow:
    red, green, blue = (int(part) for part in color.split(",")) if color else (0, 0, 0)
    return ClassRow(int(dataset_id), name, (red, green, blue) if color else None, frequency)
