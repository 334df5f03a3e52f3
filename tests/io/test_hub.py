import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from frozenseg.errors import UserError
from frozenseg.io import hub
from frozenseg.io.downloads import MissingFile, all_present
from frozenseg.io.hub import hub_file, is_repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"weights"


class Hub:
    """A hub with one repository that has one file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.cached = folder, [], False
        self.etag, self.size = hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)

    def metadata(self, url: str, *, timeout: float) -> SimpleNamespace:
        self.asked.append(url)
        if not url.endswith("/b.bin"):
            raise EntryNotFoundError("404")
        return SimpleNamespace(commit_hash=COMMIT, etag=self.etag, size=self.size)

    def download(self, repository, name, *, revision=None, local_files_only=False) -> str:
        if local_files_only and not (self.cached and name == "b.bin"):
            raise LocalEntryNotFoundError("not cached")
        self.revision, self.cached = revision, True
        path = self.folder / name
        path.write_bytes(CONTENT)
        return str(path)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    for name in ("FROZENSEG_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    server = Hub(tmp_path)
    monkeypatch.setattr(hub, "get_hf_file_metadata", server.metadata)
    monkeypatch.setattr(hub, "hf_hub_download", server.download)
    return server


def test_the_first_name_that_the_repository_has_is_fetched_once(fake: Hub) -> None:
    assert hub_file("owner/name", ["a.bin", "b.bin"]).read_bytes() == CONTENT
    assert [url.rsplit("/", 1)[1] for url in fake.asked] == ["a.bin", "b.bin"]
    hub_file("owner/name", ["a.bin", "b.bin"])
    assert len(fake.asked) == 2


def test_a_revision_is_part_of_the_question_and_the_answers_commit_is_fetched(fake: Hub) -> None:
    hub_file("owner/name", ["b.bin"], revision="v1")
    assert "/resolve/v1/" in fake.asked[0]
    assert fake.revision == COMMIT
    with pytest.raises(UserError, match="not a revision"):
        hub_file("owner/name", ["b.bin"], revision="a?b")


def test_content_with_another_hash_than_the_hub_states_is_deleted(fake: Hub) -> None:
    fake.etag = "0" * 64
    with pytest.raises(UserError, match=r"but the hub states 0000.* it was deleted"):
        hub_file("owner/name", ["b.bin"])
    assert not (fake.folder / "b.bin").exists()


def test_a_file_that_is_too_large_is_not_fetched(fake: Hub) -> None:
    with pytest.raises(UserError, match="7 bytes, more than the 6"):
        hub_file("owner/name", ["b.bin"], max_bytes=6)
    assert not fake.cached


def test_a_missing_network_is_asked_once_and_explained(fake: Hub, monkeypatch) -> None:
    def fail(url: str, *, timeout: float) -> None:
        fake.asked.append(url)
        raise ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.setattr(hub, "get_hf_file_metadata", fail)
    with pytest.raises(MissingFile, match=r"Name or service not known.*owner/name/resolve/main/a"):
        hub_file("owner/name", ["a.bin", "b.bin"])
    assert len(fake.asked) == 1


def test_offline_nobody_is_asked(fake: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROZENSEG_OFFLINE", "1")
    with pytest.raises(MissingFile, match="downloads are switched off"):
        hub_file("owner/name", ["b.bin"])
    assert fake.asked == []


def test_an_endpoint_without_encryption_is_refused(fake: Hub, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://mirror")
    with pytest.raises(UserError, match="begins with https://"):
        hub_file("owner/name", ["b.bin"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("owner/name-1.0", True), ("name", False), ("a/b/c", False), ("../name", False)],
)
def test_a_repository_is_an_owner_and_a_name(text: str, expected: bool) -> None:
    assert is_repository(text) is expected


def test_all_missing_files_are_named_in_one_sentence(tmp_path: Path) -> None:
    def miss(name: str):
        def search() -> None:
            raise MissingFile(
                name, url=f"https://x/{name}", reason="no network", place="/c/" + name
            )

        return search

    with pytest.raises(UserError) as raised:
        all_present(miss("a.bin"), lambda: None, miss("b.bin"))
    for part in ("2 files are missing", "no network", "https://x/a.bin", "/c/a.bin", "/c/b.bin"):
        assert part in str(raised.value)
    with pytest.raises(MissingFile, match=r"cannot get a\.bin"):
        all_present(miss("a.bin"))
