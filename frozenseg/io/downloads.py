"""Published files: from the cache folder, else from their publisher, and checked either way."""

import hashlib
import os
import urllib.request
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write

CHUNK = 1 << 20
TIMEOUT_S = 30
OFFLINE_SWITCHES = ("FROZENSEG_OFFLINE", "HF_HUB_OFFLINE")


class Published(NamedTuple):
    """A file as its publisher offers it."""

    url: str
    sha256: str  # all 64 digits

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def is_offline() -> bool:
    """Whether the user forbade downloads, by ``--offline`` or an environment variable."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE_SWITCHES
    )


def obtain(published: Published, folder: Path, *, setting: str) -> Path:
    """The file's place in ``folder``, after a download if it is not there.

    Args:
        setting: what the user can set to a path instead, for the error's advice.

    Raises:
        UserError: no network or none allowed; or a wrong hash: then the file is kept aside under
            another name and not used.
    """
    path = folder / published.name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{published.name}.lock"):  # several processes may start at once
        if path.is_file():
            _check(path, sha256_of(path), published, place=path)
        else:
            if is_offline():
                raise UserError(_advice(published, path, setting, "downloads are switched off"))
            try:
                _download(published, path)
            except OSError as error:  # includes urllib's
                raise UserError(_advice(published, path, setting, str(error))) from error
    return path


def sha256_of(path: Path) -> str:
    """The digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(published: Published, path: Path) -> None:
    digest = hashlib.sha256()
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        urllib.request.urlopen(published.url, timeout=TIMEOUT_S) as source,
        Progress(*columns, console=Console(stderr=True)) as progress,
        atomic_write(path) as part,
    ):
        total = int(source.headers.get("Content-Length") or 0) or None
        bar = progress.add_task(f"Downloading {published.name}", total=total)
        with part.open("wb") as file:
            while chunk := source.read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                progress.advance(bar, len(chunk))
        _check(part, digest.hexdigest(), published, place=path)


def _check(file: Path, found: str, published: Published, *, place: Path) -> None:
    if found == published.sha256:
        return
    aside = place.with_name(f"{place.name}.wrong-hash-{found[:8]}")
    file.replace(aside)
    raise UserError(
        f"{place.name} has SHA-256 {found[:16]}… where {published.url} is known to have "
        f"{published.sha256[:16]}…: it is kept as {aside} and not used; run again to download it "
        "anew"
    )


def _advice(published: Published, path: Path, setting: str, reason: str) -> str:
    return (
        f"cannot get {published.name} ({reason}): download {published.url} where there is a "
        f"network and put it at {path}, or set {setting} to where it is"
    )
