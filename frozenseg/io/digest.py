"""A digest of what a file holds, stored in the file: a flipped bit does not go unnoticed."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from frozenseg.errors import UserError

DIGEST = "sha256"  # the note, or the array, that holds the digest


def digest_of(
    arrays: Mapping[str, Tensor] | Mapping[str, np.ndarray], notes: Mapping[str, str] | None = None
) -> str:
    """Returns the SHA-256 of names, types, shapes and bytes, and of notes beside the arrays.

    The order of names does not matter, and an entry named ``sha256`` is left out.
    """
    digest = hashlib.sha256()
    for name in sorted(set(arrays) - {DIGEST}):
        kind, shape, content = _parts(arrays[name])
        digest.update(json.dumps([name, kind, shape]).encode())
        digest.update(content)
    kept = {name: text for name, text in (notes or {}).items() if name != DIGEST}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    return digest.hexdigest()


def check_digest(
    arrays: Mapping[str, Tensor] | Mapping[str, np.ndarray],
    notes: Mapping[str, str],
    *,
    source: str,
    required: bool = True,
) -> None:
    """Compares the digest that ``notes`` holds with the content.

    Args:
        arrays: content as it was read.
        notes: text beside it, with the digest under ``sha256``.
        source: the file's name in messages.
        required: False accepts content without a digest, as other programs write it.

    Raises:
        UserError: the digest is missing or differs.
    """
    stored = notes.get(DIGEST)
    if stored is None:
        if required:
            raise UserError(f"{source} has no digest of its content: create it again")
    elif stored != digest_of(arrays, notes):
        raise UserError(
            f"{source} is damaged: its content does not have the SHA-256 that was stored with it; "
            "get or create it again"
        )


def _parts(array: Tensor | np.ndarray) -> tuple[str, list[int], memoryview | bytes]:
    if isinstance(array, Tensor):
        flat = array.detach().cpu().contiguous().reshape(-1)
        return str(array.dtype), list(array.shape), flat.view(torch.uint8).numpy().data
    return array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes()
