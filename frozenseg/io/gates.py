"""One gate for every foreign parser: whatever it raises becomes one sentence about the file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from frozenseg.errors import UserError
from frozenseg.io.text import cut, one_line


@contextmanager
def parser_gate(source: str | Path, *, advice: str, expected: str = "") -> Iterator[None]:
    """Turns any exception of a parser inside the block into a ``UserError``.

    Parsers of files that anyone may have written raise far more than they document: AttributeError,
    RecursionError, OverflowError, and errors of the libraries below them.

    Args:
        source: the file, and a place in it if known.
        advice: what to do next.
        expected: what the file should be ("a YAML mapping").

    Raises:
        UserError: the block failed. A ``UserError`` of the block itself passes unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        what = f"is not {expected}" if expected else "cannot be read"
        raise UserError(f"{one_line(source)} {what} ({reason_of(error)}): {advice}") from error


def reason_of(error: BaseException) -> str:
    """Returns what an exception says, in one line of at most 200 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    lines = [line for line in str(error).splitlines() if line.strip()]
    return cut(one_line(lines[0])) if lines else type(error).__name__


def read_limited(path: Path, *, max_bytes: int) -> bytes:
    """Returns a file's content.

    Raises:
        UserError: it cannot be read, or is larger than ``max_bytes``.
    """
    with parser_gate(path, advice="give a readable file"), path.open("rb") as file:
        return _limited(file, path, max_bytes)


def read_standard_input(*, max_bytes: int) -> bytes:
    """Returns the content of standard input.

    Raises:
        UserError: it is closed, cannot be read, or is larger than ``max_bytes``.
    """
    with parser_gate("standard input", advice="pipe a file into the command"):
        return _limited(sys.stdin.buffer, "standard input", max_bytes)


def _limited(file: BinaryIO, source: str | Path, max_bytes: int) -> bytes:
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UserError(
            f"{one_line(source)} is larger than {max_bytes / 2**20:g} MiB: give a smaller file"
        )
    return content


def read_text(path: Path, *, max_bytes: int) -> str:
    """Returns the text of a UTF-8 file, without a byte order mark.

    Raises:
        UserError: it cannot be read, is too large, or is not UTF-8; the position is named.
    """
    return as_text(read_limited(path, max_bytes=max_bytes), path)


def as_text(content: bytes, source: str | Path) -> str:
    """Returns UTF-8 bytes as text, without a byte order mark.

    Raises:
        UserError: they are not UTF-8; the position is named.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{one_line(source)} is not UTF-8 text (byte 0x{content[error.start]:02x} at position "
            f"{error.start}): save it as UTF-8"
        ) from error
