"""Small JSON files of the project: what was changed on the disk is noticed."""

import json
import logging
from pathlib import Path

import pytest

from frozenseg.errors import UserError
from frozenseg.io.records import read_record, sound_record, write_record

CONTENT = {"pairs": [["a.png", "b.png", "circle"]], "problem": None, "score": float("inf")}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", CONTENT)
    assert read_record(tmp_path / "a.json") == sound_record(tmp_path / "a.json") == CONTENT


@pytest.mark.parametrize(
    ("old", "new"), [("circle", "circlf"), ("null", "0"), ('"sha256"', '"sha255"'), ("}", "")]
)
def test_a_changed_record_is_refused_and_made_again(
    tmp_path: Path, old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.json"
    write_record(path, CONTENT)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=r"a\.json (is damaged|is not JSON|has no digest)"):
        read_record(path)
    with caplog.at_level(logging.WARNING):
        assert sound_record(path) is None
    assert "rebuilt" in caplog.text


def test_a_digest_of_a_wrong_type_is_no_digest(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": 1, "sha256": [1]}))
    with pytest.raises(UserError, match="is damaged"):
        read_record(tmp_path / "a.json")


def test_a_missing_record_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert sound_record(tmp_path / "a.json") is None
    assert not caplog.records
