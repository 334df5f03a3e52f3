"""The training classes, noted in the file of trained weights so that they travel with it."""

import json
import logging
from pathlib import Path
from typing import Any

from safetensors import safe_open

from frozenseg.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

CLASSES = "classes"  # the note: a list of {"synonyms": [...], "thing": true}
_FOLDER_FILE = "weights.safetensors"  # of a checkpoint's folder


def classes_note(vocabulary: Vocabulary) -> dict[str, str]:
    """Returns what is noted beside weights that were trained on these classes."""
    rows = [
        {"synonyms": list(synonyms), "thing": is_thing}
        for synonyms, is_thing in zip(vocabulary.synonyms, vocabulary.is_thing, strict=True)
    ]
    return {CLASSES: json.dumps(rows)}


def noted_classes(weights: str | Path) -> Vocabulary | None:
    """Returns the classes that weights were trained on, or None if their file does not say.

    Args:
        weights: a safetensors file, or a checkpoint's folder. Other files have no notes.
    """
    path = Path(weights).expanduser() if str(weights) else None
    if path is None:
        return None
    path = path / _FOLDER_FILE if path.is_dir() else path
    if not path.is_file() or path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            note = (file.metadata() or {}).get(CLASSES)
        return None if note is None else _parsed(json.loads(note))
    except Exception as error:  # loading the weights reports the error of the file
        logger.warning("%s: the note of its classes cannot be read (%s)", path, error)
        return None


def _parsed(rows: Any) -> Vocabulary:
    """The vocabulary of a note; damaged ones raise a KeyError, TypeError or ValueError."""
    synonyms = tuple(tuple(str(word) for word in row["synonyms"]) for row in rows)
    return Vocabulary(synonyms, tuple(bool(row["thing"]) for row in rows))
