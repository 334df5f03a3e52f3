"""Text embeddings kept in files: checked when read, and a convenience that may fail."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.files import CACHE_VARIABLE
from frozenseg.io.safetensors_files import read_safetensors, write_safetensors
from frozenseg.io.text import one_line

logger = logging.getLogger(__name__)

NAME = "embeddings"  # of the tensor
FORMAT = "frozenseg-text-2"  # with a digest; files of format 1 had neither
LENGTH_TOLERANCE = 1e-3


def cache_path(
    folder: Path, phrases: Sequence[str], templates: Sequence[str], tower_fingerprint: str
) -> Path:
    """Returns the file of these phrases in these templates, encoded by this tower.

    Args:
        folder: of all such files.
        phrases: in the order of the rows.
        templates: in the order in which they are averaged.
        tower_fingerprint: identifies the text encoder's weights.
    """
    content = json.dumps([tower_fingerprint, list(templates), list(phrases)])
    return folder / f"text-{hashlib.sha256(content.encode()).hexdigest()[:32]}.safetensors"


def read_rows(path: Path, *, num_rows: int, width: int | None = None) -> Tensor | None:
    """Returns the rows of a file; None, with a warning if it is damaged, to compute them again.

    Args:
        path: the file, which need not exist.
        num_rows: expected number of rows.
        width: expected number of columns; None accepts any.
    """
    try:
        if not path.is_file():
            return None
        tensors, notes = read_safetensors(path)
        if notes.get("format") != FORMAT or tensors.keys() != {NAME}:
            raise UserError(f"{one_line(path)} is not of the format {FORMAT}")
        rows = tensors[NAME]
        if problem := _problem(rows, num_rows, width):
            raise UserError(f"{one_line(path)} {problem}")
    except (UserError, OSError) as error:
        logger.warning("%s: encoding the class names again", error)
        return None
    return rows


def write_rows(rows: Tensor, path: Path) -> None:
    """Keeps rows for the next run; a warning if they cannot be written."""
    try:
        write_safetensors({NAME: rows}, path, {"format": FORMAT})
    except (UserError, OSError) as error:
        logger.warning(
            "text embeddings are not kept for the next run (%s); set %s to a folder that can be "
            "written",
            error,
            CACHE_VARIABLE,
        )


def _problem(rows: Tensor, num_rows: int, width: int | None) -> str | None:
    if rows.dtype != torch.float32 or rows.dim() != 2:
        return f"holds {rows.dtype} of shape {tuple(rows.shape)}, not a float32 matrix"
    if len(rows) != num_rows or width not in (None, rows.shape[1]):
        return f"has the shape {tuple(rows.shape)}, expected {(num_rows, width or '*')}"
    lengths = rows.norm(dim=1)
    if not ((lengths - 1).abs() <= LENGTH_TOLERANCE).all():  # not so for NaN either
        return "holds rows that are not of unit length"
    return None
