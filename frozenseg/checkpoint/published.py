"""The published weights: where they are, under which licence, and which file was seen first.

Their publishers state no whole hash, so the first file that fits is trusted: its SHA-256 is kept
beside it, and another file under the same name is refused later (trust on first use).
"""

import csv
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from frozenseg.errors import UserError
from frozenseg.io.downloads import sha256_of
from frozenseg.io.files import cache_folder, is_file
from frozenseg.io.gates import parser_gate, read_text
from frozenseg.io.text import one_line, quoted
from frozenseg.io.writing import write_text

TABLE = Path(__file__).with_name("published.tsv")
MIN_BYTES = 1 << 20  # below, it is a page that says why there is no file


class Published(NamedTuple):
    """One published file of weights."""

    name: str
    model: str  # the model's name in ``frozenseg.load``; empty if weights alone do not make one
    what: str
    url: str
    licence: str  # as its authors state it; "code ..." if they state it for their code only
    md5_prefix: str  # of the file, as far as it is known

    @property
    def place(self) -> Path:
        """Where the file is looked for."""
        return cache_folder() / "weights" / f"{self.name}.pth"


@cache
def published_weights() -> dict[str, Published]:
    """Returns all published files by name."""
    with TABLE.open(encoding="utf8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["name"]: Published(**row) for row in rows}


def find_published(name: str) -> Published:
    """Returns the entry of a name.

    Raises:
        UserError: there is none.
    """
    if name not in published_weights():
        known = ", ".join(published_weights())
        raise UserError(f"no published weights {quoted(name)}: choose one of {known}")
    return published_weights()[name]


def check_file(entry: Published, path: Path) -> str:
    """Checks a file's size and hashes, records it if it is the first, and returns its SHA-256.

    Args:
        entry: what the file is said to be.
        path: the file.

    Raises:
        UserError: it is missing, no weights file, or another file than before.
    """
    if not is_file(path):
        raise UserError(
            f"no file {one_line(path)}: download {entry.url} in a browser, confirm the download "
            "there, and put it at that path"
        )
    with parser_gate(path, advice="give a readable file"):
        size, md5, sha256 = path.stat().st_size, _md5_of(path), sha256_of(path)
    if size < MIN_BYTES:
        raise UserError(
            f"{one_line(path)} has {size:,} bytes, too few for weights: it may be a web page that "
            f"asks for a confirmation; download {entry.url} in a browser"
        )
    if not md5.startswith(entry.md5_prefix):
        raise UserError(
            f"{one_line(path)} has MD5 {md5[:6]}... but {entry.name} was published with "
            f"{entry.md5_prefix}...: download {entry.url} again"
        )
    seen = first_seen(entry)
    if seen not in ("", sha256):
        raise UserError(
            f"{one_line(path)} is another file than the first one under the name {entry.name} "
            f"(SHA-256 {sha256[:16]}..., before {seen[:16]}...): use the earlier file, or delete "
            f"{one_line(_record(entry))} if you trust this one"
        )
    return sha256


def remember(entry: Published, sha256: str) -> bool:
    """Records the SHA-256 of a checked file; returns True if it is the first one."""
    if first_seen(entry):
        return False
    write_text(_record(entry), sha256 + "\n")
    return True


def first_seen(entry: Published) -> str:
    """Returns the SHA-256 of the file that was trusted first; empty if there was none.

    Raises:
        UserError: the record is damaged.
    """
    record = _record(entry)
    if not is_file(record):
        return ""
    sha256 = read_text(record, max_bytes=1000).strip()
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise UserError(f"{one_line(record)} holds no SHA-256: delete it to trust the next file")
    return sha256


def _record(entry: Published) -> Path:
    return cache_folder() / "weights" / f"{entry.name}.sha256"


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
