"""Files of repositories on the Hugging Face hub: asked for once, pinned on request, checked."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from frozenseg.errors import UserError
from frozenseg.io.downloads import MissingFile, is_offline, sha256_of
from frozenseg.io.gates import reason_of
from frozenseg.io.text import one_line, quoted

TIMEOUT_S = 2.5  # for the first answer; a network that is not there takes no longer
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w.-][\w./-]{0,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_repository(name: str) -> bool:
    """Returns True for text of the form ``owner/name``."""
    return _REPOSITORY.fullmatch(name) is not None


def hub_file(
    repository: str,
    names: Sequence[str],
    *,
    revision: str | None = None,
    max_bytes: int | None = None,
) -> Path:
    """Returns a file in the hub client's cache, downloaded if it is not there.

    The hub is asked once, with a short timeout and without retries. A download is compared with the
    SHA-256 that the hub states for files of Git LFS, as weights are.

    Args:
        repository: ``owner/name``.
        names: of the file, in order of preference.
        revision: a commit, branch or tag; None is the newest state of the main branch.
        max_bytes: size above which nothing is downloaded.

    Raises:
        MissingFile: no network, downloads are not allowed, or the hub refuses.
        UserError: the file is too large or has another hash than the hub states.
    """
    if revision is not None and not _REVISION.fullmatch(revision):
        raise UserError(f"{quoted(revision)} is not a revision: give a commit, a branch or a tag")
    for name in names:
        try:
            return _from_cache(repository, name, revision)
        except LocalEntryNotFoundError:
            continue
    if is_offline():
        raise _missing(repository, names[0], revision, "downloads are switched off")
    try:
        return _download(repository, names, revision, max_bytes)
    except UserError:
        raise
    except Exception as error:  # answers of the hub, of the network, of the disk
        raise _missing(repository, names[0], revision, reason_of(error)) from error


def _from_cache(repository: str, name: str, revision: str | None) -> Path:
    try:
        return Path(hf_hub_download(repository, name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise
    except Exception as error:  # a cache that cannot be read, a name that the client refuses
        raise _missing(repository, name, revision, reason_of(error)) from error


def _download(
    repository: str, names: Sequence[str], revision: str | None, max_bytes: int | None
) -> Path:
    if not constants.ENDPOINT.startswith("https://"):
        raise UserError(
            f"HF_ENDPOINT is {quoted(constants.ENDPOINT)}: set it to an address that begins with "
            "https://"
        )
    for name in names:
        try:
            about = get_hf_file_metadata(
                hf_hub_url(repository, name, revision=revision), timeout=TIMEOUT_S
            )
        except EntryNotFoundError:  # the repository may have the next one
            continue
        if max_bytes is not None and (about.size or 0) > max_bytes:
            raise UserError(
                f"{name} of {one_line(repository)} has {about.size:,} bytes, more than the "
                f"{max_bytes:,} that such a file may have: choose another repository"
            )
        # the commit of the answer, so that checked and downloaded file are the same
        path = Path(hf_hub_download(repository, name, revision=about.commit_hash or revision))
        _check(path, about.etag, f"{name} of {repository}")
        return path
    raise FileNotFoundError(f"the repository has no file {' or '.join(names)}")


def _check(path: Path, etag: str | None, what: str) -> None:
    if etag is None or not _SHA256.fullmatch(etag):  # small files have a hash of Git
        return
    found = sha256_of(path)
    if found != etag:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise UserError(
            f"{one_line(what)} has SHA-256 {found[:16]}... but the hub states {etag[:16]}...: it "
            "was deleted; run again to download it again"
        )


def _missing(repository: str, name: str, revision: str | None, reason: str) -> MissingFile:
    url = f"https://huggingface.co/{repository}/resolve/{revision or 'main'}/{name}"
    return MissingFile(f"{name} of {repository}", url=url, reason=reason)
