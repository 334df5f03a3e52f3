"""NumPy archives (.npz): written with a digest, read without trusting their sizes."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from frozenseg.errors import UserError
from frozenseg.io.digest import DIGEST, check_digest, digest_of
from frozenseg.io.files import atomic_write
from frozenseg.io.gates import parser_gate, reason_of
from frozenseg.io.text import one_line, quoted


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes a .npz archive atomically, with a digest of its arrays.

    Raises:
        UserError: the file cannot be written; one that was there before is unchanged.
    """
    digest = np.array(digest_of(arrays))
    with atomic_write(path) as part:
        try:
            with part.open("wb") as file:  # a name would get .npz appended
                np.savez(file, allow_pickle=False, **{**arrays, DIGEST: digest})
        except OSError as error:
            raise UserError(
                f"{one_line(path)} cannot be written ({reason_of(error)}): free some space or "
                "choose another folder"
            ) from error


def read_arrays(path: Path, *, digest_required: bool = True) -> dict[str, np.ndarray]:
    """Returns the arrays of a .npz archive.

    Args:
        path: the file.
        digest_required: False also accepts archives of other programs, which have no digest.

    Raises:
        UserError: the file is missing, damaged or compressed, holds Python objects, or its digest
            is missing or wrong.
    """
    with (
        parser_gate(path, expected="a NumPy archive", advice="delete it or get it again"),
        zipfile.ZipFile(path) as archive,
    ):
        arrays = {
            info.filename.removesuffix(".npy"): _read_array(archive, info, path)
            for info in archive.infolist()
        }
    stored = arrays.pop(DIGEST, None)
    notes = {} if stored is None else {DIGEST: str(stored)}
    check_digest(arrays, notes, source=one_line(path), required=digest_required)
    return arrays


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """Reads one member after comparing the size that its header promises with the real one."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise UserError(
            f"{one_line(path)} holds the compressed array {quoted(info.filename)}: save it with "
            "numpy.savez"
        )
    with archive.open(info) as file:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = read_header(file)
        promised = math.prod(shape) * kind.itemsize
        real = min(info.file_size, path.stat().st_size)
        if kind.hasobject or file.tell() + promised != real:
            raise UserError(
                f"{one_line(path)} holds {quoted(info.filename)}, whose size is not that of its "
                f"type and shape {shape}: delete it or get it again"
            )
    with archive.open(info) as file:
        return npy.read_array(file, allow_pickle=False)
