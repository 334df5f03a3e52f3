"""Whole files of text, and files that a run can do without."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.gates import reason_of
from frozenseg.io.text import one_line

logger = logging.getLogger(__name__)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically.

    Raises:
        UserError: the file cannot be written; one that was there before is unchanged.
    """
    with disk_gate(path), atomic_write(path) as part:
        part.write_text(text, encoding="utf8")


@contextmanager
def disk_gate(path: Path) -> Iterator[None]:
    """Turns an ``OSError`` while writing ``path`` into a ``UserError``.

    Raises:
        UserError: the block failed, for example because the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{one_line(path)} cannot be written ({reason_of(error)}): free some space or choose "
            "another folder"
        ) from error


@contextmanager
def optional_file(what: str) -> Iterator[None]:
    """Logs a warning instead of failing if a file that the run can do without is not written.

    Args:
        what: the file's purpose, as the warning names it.
    """
    try:
        yield
    except (OSError, UserError) as error:
        logger.warning("%s: not written, the run continues (%s)", what, reason_of(error))
