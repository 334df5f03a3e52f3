"""Files of ``torch.save``: checked before they are parsed, and no code in them is run."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from frozenseg.errors import UserError
from frozenseg.io.gates import parser_gate, reason_of
from frozenseg.io.safetensors_files import damaged
from frozenseg.io.text import one_line

LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the first object of files before torch 1.6
MAX_PICKLE_BYTES = 1 << 26  # names and shapes; the tensors lie beside them

# plain arrays, as Detectron2's model zoo holds them; they run no code
_NUMPY_GLOBALS = [
    multiarray._reconstruct,
    multiarray.scalar,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")),
    # these two under the name that files of NumPy 1 hold
    (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
]


def read_torch(path: Path, *, zipped: bool) -> Any:
    """Returns what ``torch.save`` wrote, on the CPU; tensors of a zip file stay mapped.

    Args:
        path: the file.
        zipped: whether it is a zip file or of the format before torch 1.6.

    Raises:
        UserError: it is damaged, compressed, TorchScript, or needs code to run.
    """
    if zipped:
        _check_archive(path)
    try:
        with torch.serialization.safe_globals(_NUMPY_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the errors below say more
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # damaged files raise far more than UnpicklingError
        raise UserError(_refusal(path, error)) from error


def is_plain_pickle(path: Path) -> bool:
    """Returns True for a pickle that ``torch.save`` did not write."""
    with path.open("rb") as file:
        first = file.read(1)
        file.seek(-len(first), 2)
        return first == pickle.PROTO and file.read(1) == pickle.STOP


def refusal(path: Path, what: str) -> str:
    """Returns the sentence about a file that could run code."""
    return (
        f"{one_line(path)} is refused: {what}; take the same weights as safetensors if there are "
        "any, or, if you trust its origin, load it there and save the weights alone with "
        "torch.save(model.state_dict(), path)"
    )


def _check_archive(path: Path) -> None:
    """Refuses archives whose reading would need much more memory than the file has bytes."""
    with (
        parser_gate(path, expected="a file of torch.save", advice="get it again"),
        _opened(path) as archive,
    ):
        members = archive.infolist()
        names = {member.filename.rsplit("/", 1)[-1]: member for member in members}
        if "constants.pkl" in names:
            raise UserError(
                refusal(path, "it is a TorchScript archive, which holds code beside weights")
            )
        if "data.pkl" not in names:
            raise UserError(
                f"{one_line(path)} is a zip archive that torch.save did not write: give the file "
                "of weights that is in it, if there is one"
            )
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UserError(
                f"{one_line(path)} is a compressed archive, which torch.save does not write: "
                "unpack it and give the weights file"
            )
        if names["data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise UserError(
                f"{one_line(path)} holds {MAX_PICKLE_BYTES >> 20} MiB or more beside its tensors: "
                "save the weights alone with torch.save(model.state_dict(), path)"
            )
        if (bad := archive.testzip()) is not None:
            raise UserError(damaged(path, f"{one_line(bad)} does not have its checksum"))


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except Exception as error:
        raise UserError(damaged(path, reason_of(error))) from error


def _refusal(path: Path, error: Exception) -> str:
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code:
        return refusal(path, f"to read it Python would have to run code that it names ({code[1]})")
    return damaged(path, reason_of(error))
