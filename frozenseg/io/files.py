"""The cache folder, paths that users type, and atomic writes."""

import functools
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frozenseg.errors import UserError
from frozenseg.io.gates import reason_of
from frozenseg.io.text import one_line

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "FROZENSEG_CACHE"
TEMPORARY_PREFIX = ".partial-"  # of files that are being written


def user_path(text: str | Path) -> Path:
    """Returns a path with ``~`` expanded; an unknown user or no home leaves it as it is."""
    try:
        return Path(os.path.expanduser(text))
    except ValueError:  # a user's name with a null byte or a lone surrogate
        return Path(text)


def cache_folder() -> Path:
    """Returns the folder of downloads and computed text embeddings, which need not exist yet.

    It is ``$FROZENSEG_CACHE``, else ``frozenseg`` below ``$XDG_CACHE_HOME`` or ``~/.cache``. A user
    without a home directory gets a temporary folder for the lifetime of the process.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return user_path(chosen)
    base = user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return _temporary_cache() if str(base).startswith("~") else base / "frozenseg"


@functools.cache
def _temporary_cache() -> Path:
    logger.warning(
        "there is no home directory to keep a cache in: nothing is kept after this run; set %s to "
        "a folder",
        CACHE_VARIABLE,
    )
    folder = tempfile.TemporaryDirectory(prefix="frozenseg-")  # removed when the process ends
    _kept_alive.append(folder)
    os.environ[CACHE_VARIABLE] = folder.name  # child processes share it
    return Path(folder.name)


_kept_alive: list[tempfile.TemporaryDirectory[str]] = []


def is_file(path: Path) -> bool:
    """Returns True for an existing file; False for text that is no path, such as a long one."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Returns True for an existing folder; False for text that is no path, such as a long one."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def no_weights_file(path: Path) -> UserError:
    """Returns the error for a path where there are no weights."""
    return UserError(
        f"no weights file {one_line(path)}: give the path of a .safetensors or .pth file "
        "(`frozenseg weights list` links to the published ones)"
    )


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents.

    Raises:
        UserError: it cannot be created; the reason is given.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"the folder {one_line(folder)} cannot be made ({reason_of(error)}): choose another "
            "place"
        ) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` that replaces it if the block succeeds.

    Readers never see a partly written file, and a failed or interrupted block leaves an earlier
    file unchanged.

    Raises:
        UserError: the folder cannot be created or written to.
    """
    make_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=TEMPORARY_PREFIX, suffix=path.suffix
        )
    except (OSError, ValueError) as error:
        raise UserError(_not_written(path, error)) from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        try:
            part.chmod(0o666 & ~_umask())
            part.replace(path)
        except (OSError, ValueError) as error:
            raise UserError(_not_written(path, error)) from error
    finally:
        part.unlink(missing_ok=True)


def _not_written(path: Path, error: Exception) -> str:
    return (
        f"{one_line(path)} cannot be written ({reason_of(error)}): fix this or choose another "
        "folder"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
