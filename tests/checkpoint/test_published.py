import hashlib
from pathlib import Path

import pytest

from frozenseg.checkpoint.published import (
    check_file,
    find_published,
    first_seen,
    published_weights,
    remember,
)
from frozenseg.config.models import model_names
from frozenseg.errors import UserError

CONTENT = b"w" * (1 << 20)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "downloaded.pth"
    path.write_bytes(CONTENT)
    return path


def test_every_entry_has_a_link_a_licence_and_a_known_model() -> None:
    assert len(published_weights()) == 18
    for entry in published_weights().values():
        assert entry.url.startswith("https://")
        assert entry.licence
        assert entry.model in ("", *model_names())


def test_the_first_file_is_trusted_and_another_one_refused_later(file: Path) -> None:
    entry = find_published("fcclip-rn50")
    sha256 = check_file(entry, file)
    assert sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert remember(entry, sha256)
    assert not remember(entry, check_file(entry, file))
    file.write_bytes(CONTENT + b"!")
    with pytest.raises(UserError, match="another file than the first one under the name fcclip"):
        check_file(entry, file)
    check_file(find_published("fcclip-rn101"), file)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("fcclip-rn50", b"<html>", "6 bytes, too few for weights"),
        ("ovseg-large", CONTENT, "has MD5 .* was published with 526080"),
    ],
)
def test_a_file_that_cannot_be_it_is_explained(file: Path, name, content, sentence: str) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        check_file(find_published(name), file)


def test_a_missing_file_is_a_sentence_with_the_link(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"drive\.google\.com/file/d/1tcB.*put it at that path"):
        check_file(find_published("fcclip-rn50"), tmp_path / "no.pth")


def test_a_damaged_record_is_not_taken_for_a_hash(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "fcclip-rn50.sha256").write_text("abc")
    with pytest.raises(UserError, match="holds no SHA-256"):
        first_seen(find_published("fcclip-rn50"))


def test_unknown_weights_list_the_known_ones() -> None:
    with pytest.raises(UserError, match="choose one of frozenseg-convnext-large"):
        find_published("fcclip")
