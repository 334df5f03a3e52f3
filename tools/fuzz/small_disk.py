"""Writes to a real small file system that is full or read-only.

    unshare -rm python -m tools.fuzz.small_disk FOLDER

mounts one of 12 MB on the folder, in a namespace of its own, and runs every writer of
``tools.fuzz.entries.disks`` on it. Each must refuse or go on, and succeed once the disk is sound.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.fuzz.case import WrongResult
from tools.fuzz.entries.disks import CONVENIENCES, WRITERS, attempt, laid_out

SIZE = "12m"
FREE = (0, 1 << 12, 1 << 14)  # bytes that are left


def main() -> int:
    disk = Path(sys.argv[1])
    _mount("-t", "tmpfs", "-o", f"size={SIZE}", "none", str(disk))
    os.environ["FROZENSEG_OFFLINE"] = "1"
    problems = 0
    for name, write in WRITERS.items():
        with tempfile.TemporaryDirectory() as sound:
            expected = write(laid_out(Path(sound) / "sound"))
        for what, fault in (
            *((f"{free} bytes free", full(disk, free)) for free in FREE),
            ("read-only", read_only(disk)),
        ):
            try:
                _check(name, write, disk / f"{name}-{what.split()[0]}", fault, expected)
            except Exception as error:
                sys.stdout.write(f"{name}, {what}: {type(error).__name__}: {error}\n")
                problems += 1
    sys.stdout.write(f"{len(WRITERS)} writers, {problems} problems\n")
    return 1 if problems else 0


def _check(
    name: str, write: Callable[[Path], Any], folder: Path, fault: Any, expected: Any
) -> None:
    laid_out(folder)
    refused = attempt(write, folder, fault, expected)
    if refused and name in CONVENIENCES and refused != "UserError":
        raise WrongResult(f"work stops because of a file that is a convenience ({refused})")
    if write(folder) != expected:
        raise WrongResult("on the repaired disk, the result differs")
    for path in sorted(folder.rglob("*"), reverse=True):  # room for the next
        path.rmdir() if path.is_dir() else path.unlink()


@contextmanager
def full(disk: Path, free: int) -> Iterator[None]:
    """The disk has only ``free`` bytes left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            os.truncate(filler, max(0, filler.stat().st_size - free))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    _mount("-o", "remount,ro", str(disk))
    try:
        yield
    finally:
        _mount("-o", "remount,rw", str(disk))


def _mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True)


if __name__ == "__main__":
    sys.exit(main())
