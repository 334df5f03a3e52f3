"""Where things are kept, and writing them whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frozenseg.errors import UserError


def cache_folder() -> Path:
    """Downloads and computed text embeddings: ``$FROZENSEG_CACHE``, else ``~/.cache/frozenseg``."""
    if chosen := os.environ.get("FROZENSEG_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "frozenseg"


def make_folder(folder: Path) -> None:
    """With all that are above it.

    Raises:
        UserError: it cannot be made; the reason is told.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be made ({error.strerror}): choose another"
        ) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name if the block ends well, else goes.

    Readers, and a run that was stopped half-way, never see a half-written file.

    Raises:
        UserError: nothing can be written there.
    """
    make_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): mend that, or choose another folder"
        ) from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
