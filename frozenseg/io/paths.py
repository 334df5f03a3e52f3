"""Names read from files joined to folders, and folder listings without temporary files."""

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from frozenseg.errors import UserError
from frozenseg.io.files import TEMPORARY_PREFIX, is_folder
from frozenseg.io.text import one_line, quoted

# files of ``atomic_write``; older versions had no prefix
_TEMPORARY = re.compile(rf"({re.escape(TEMPORARY_PREFIX)}|\.)[a-z0-9_]{{8}}(\.[^.]+)?")


def inside(folder: Path, name: object, *, source: object, links: bool = True) -> Path:
    """Joins a name that was read from a file to the folder that it must stay below.

    Args:
        folder: may itself be, or lie behind, a link.
        name: relative, with forward slashes.
        source: the file that holds the name, for the message.
        links: also follow links below ``folder``; False checks the name alone, without the disk.

    Raises:
        UserError: the name is no text, empty, absolute, climbs with ``..``, or is a link that leads
            out of the folder.
    """
    reason = refusal(name)
    if reason is None:
        assert isinstance(name, str), "other types have a refusal"
        path = folder / name
        if not links or _stays_below(folder, path):
            return path
        reason = "is a link that leads out of its folder"
    raise UserError(
        f"{one_line(source)} names the file {quoted(name)}, which {reason}: use a relative name "
        f"below {one_line(folder)}"
    )


def refusal(name: object) -> str | None:
    """Why a name cannot be joined to a folder; None for a relative name that stays below it."""
    if not isinstance(name, str):
        return f"is of type {type(name).__name__}, not text"
    if reason := unusable(name):
        return reason
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\"):
        return "is absolute"
    if ".." in re.split(r"[/\\]", name):
        return "climbs out of its folder"
    return None


def unusable(text: str) -> str | None:
    """Why text from a file can be no path at all; None if it can be one."""
    if not text or "\0" in text:
        return "is empty or holds a zero byte"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "holds half a character"
    return None


def listed_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The files below ``folder`` that match a glob pattern, sorted; hidden files never match.

    Temporary files of interrupted writes are hidden files, so that they are never taken for data.
    """
    if not is_folder(folder):
        return []
    found = (path for path in folder.glob(pattern) if not is_hidden(path.relative_to(folder)))
    return sorted(path for path in found if path.is_file())


def is_hidden(path: Path) -> bool:
    """Returns True if a part of the relative path begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def remove_leftovers(folders: Iterable[Path]) -> int:
    """Deletes temporary files that killed processes left in these folders.

    No other process may be writing there.

    Returns:
        The number of files that were deleted.
    """
    leftovers = [
        path
        for folder in set(folders)
        if folder.is_dir()
        for path in folder.iterdir()
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    ]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _stays_below(folder: Path, path: Path) -> bool:
    try:
        real = os.path.realpath(path)
    except OSError:  # a loop of links
        return False
    base = os.path.realpath(folder)
    return real == base or real.startswith(base.rstrip(os.sep) + os.sep)
