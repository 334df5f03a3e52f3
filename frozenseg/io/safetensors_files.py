"""Safetensors files: read through one gate, written with a digest of their content."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.digest import DIGEST, check_digest, digest_of
from frozenseg.io.files import atomic_write
from frozenseg.io.gates import reason_of
from frozenseg.io.text import one_line


def read_safetensors(
    path: Path, *, digest_required: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns all tensors of a file, on the CPU, and its notes.

    Args:
        path: the file.
        digest_required: False also accepts files without a digest: of other programs, and of this
            project's formats with version 1.

    Raises:
        UserError: the file is missing, cut short or damaged, or its digest is missing or wrong.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            notes = dict(file.metadata() or {})
    except Exception as error:  # the library does not document what it raises
        raise UserError(damaged(path, reason_of(error))) from error
    required = digest_required or _promises_digest(notes.get("format", ""))
    check_digest(tensors, notes, source=one_line(path), required=required)
    return tensors, notes


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, notes: Mapping[str, str]) -> None:
    """Writes tensors and notes atomically, with a digest of both.

    Raises:
        UserError: the file cannot be written; one that was there before is unchanged.
    """
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_write(path) as part:
        try:
            save_file(stored, part, {**notes, DIGEST: digest_of(stored, notes)})
        except Exception as error:  # a full disk, in the library's own words
            raise UserError(
                f"{one_line(path)} cannot be written ({reason_of(error)}): free some space or "
                "choose another folder"
            ) from error


def _promises_digest(format_name: str) -> bool:
    return format_name.startswith("frozenseg-") and not format_name.endswith("-1")


def damaged(path: Path, reason: str) -> str:
    """Returns the sentence about a file that no parser can read to its end."""
    try:
        size = f"{path.stat().st_size:,} bytes"
    except OSError as error:
        size = reason_of(error)
    return f"{one_line(path)} ({size}) is cut short or damaged ({reason}): get it again"
