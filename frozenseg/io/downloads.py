"""Published files: from the cache folder or their publisher, checked in both cases."""

import hashlib
import logging
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.gates import reason_of
from frozenseg.io.text import one_line

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
TIMEOUT_S = 30
OFFLINE_SWITCHES = ("FROZENSEG_OFFLINE", "HF_HUB_OFFLINE")


class Published(NamedTuple):
    """A published file and its hash."""

    url: str
    sha256: str  # all 64 digits

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


class MissingFile(UserError):
    """A file that is neither here nor can be downloaded.

    Args:
        name: of the file, as messages call it.
        url: where it comes from.
        reason: why it cannot be downloaded.
        place: where a copy would be found; empty where there is no such place.
        setting: key that can be set to a path instead.
    """

    def __init__(
        self, name: str, *, url: str, reason: str, place: str | Path = "", setting: str = ""
    ) -> None:
        self.name, self.url, self.reason = name, url, reason
        self.place, self.setting = one_line(place), setting
        super().__init__(f"cannot get {name} ({reason}): {self.advice}")

    @property
    def advice(self) -> str:
        """What to do, without the reason."""
        put = f" and put it at {self.place}" if self.place else ""
        instead = f", or set {self.setting} to its path" if self.setting else ""
        return f"download {self.url} on a machine with a network{put}{instead}"

    def located(self, place: str | Path, setting: str) -> "MissingFile":
        """Returns the same error with the place where a copy would be found."""
        return MissingFile(
            self.name, url=self.url, reason=self.reason, place=place, setting=setting
        )


def all_present(*searches: Callable[[], object]) -> None:
    """Calls every search, so that all missing files are named in one sentence.

    Args:
        searches: functions that raise ``MissingFile`` if their file is missing.

    Raises:
        MissingFile: one file is missing.
        UserError: several are.
    """
    missing: list[MissingFile] = []
    for search in searches:
        try:
            search()
        except MissingFile as error:
            missing.append(error)
    if len(missing) == 1:
        raise missing[0]
    if missing:
        listed = "; ".join(f"{each.name}: {each.advice}" for each in missing)
        raise UserError(
            f"{len(missing)} files are missing and cannot be downloaded ({missing[0].reason}): "
            f"{listed}"
        )


def is_offline() -> bool:
    """Returns True if ``--offline`` or an environment variable forbids downloads."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE_SWITCHES
    )


def obtain(published: Published, folder: Path, *, setting: str) -> Path:
    """Returns the path of a file in ``folder``; downloads it if it is not there.

    Args:
        published: the file.
        folder: the cache; if it cannot be written, a file in it is still used.
        setting: key that the user can set to a path instead, for the error's advice.

    Raises:
        UserError: no network, or downloads are not allowed; the folder cannot be written; or a
            wrong hash: the file is then renamed and not used.
    """
    path = folder / published.name
    with _locked(folder / f".{published.name}.lock"):
        if path.is_file():
            _check(path, sha256_of(path), published, place=path)
        else:
            if is_offline():
                raise _missing(published, path, setting, "downloads are switched off")
            try:
                _download(published, path)
            except UserError:
                raise
            except Exception as error:  # OSError includes urllib's; http.client has its own
                raise _missing(published, path, setting, reason_of(error)) from error
    return path


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Lets one of several processes at a time look for the file, where locks are possible."""
    with ExitStack() as stack:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(lock))
        except (OSError, NotImplementedError) as error:  # read-only, or a file system without locks
            logger.debug("%s cannot be locked: %s", lock, error)
        yield


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal digits."""
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
    try:
        file.replace(aside)
        fate = f"kept as {one_line(aside)}"
    except OSError as error:  # a read-only cache
        fate = f"left where it is ({reason_of(error)})"
    raise UserError(
        f"{place.name} has SHA-256 {found[:16]}... but {published.url} has "
        f"{published.sha256[:16]}...: it is {fate} and not used; run again to download it again"
    )


def _missing(published: Published, path: Path, setting: str, reason: str) -> MissingFile:
    return MissingFile(
        published.name, url=published.url, reason=reason, place=path, setting=setting
    )
