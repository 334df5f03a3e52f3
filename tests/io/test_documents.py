import json
from pathlib import Path

import pytest

from frozenseg.errors import UserError
from frozenseg.io.documents import read_json, read_yaml_mapping

YAML_MISTAKES = {
    "": "is empty: write at least one",
    "# only a comment\n": "is empty: write at least one",
    "- a\n- b\n": "it holds a list",
    "just words": "it holds a str",
    "[" * 5000: "nested more than 40 levels",
    "a: 1\n---\nb: 2\n": "not a plain YAML mapping",
    "a: &x [1]\nb: *x\n": "line 2 uses the alias",
    "m: &m\n  a: *m\n": "uses the alias",
    "null: 1\n": "the key None, which is not text",
    "m:\n  1: 2\n": "the key 1, which is not text",
    "? [a, b]\n: 1\n": "not a plain YAML mapping",
    "a: [1\n": "not a plain YAML mapping",
    "a: !!python/object/apply:os.getcwd []": "not a plain YAML mapping",
    "a: !!int ''": "not a plain YAML mapping",
    "a: !!bool maybe": "not a plain YAML mapping",
    "a: 2026-99-99": "not a plain YAML mapping",
    "a: \x00": "not a plain YAML mapping",
}


@pytest.mark.parametrize("text", YAML_MISTAKES)
def test_a_yaml_mistake_is_one_short_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=YAML_MISTAKES[text]) as raised:
        read_yaml_mapping(path)
    assert len(str(raised.value)) < 400 + len(str(path)) and "\n" not in str(raised.value)


def test_text_that_is_not_utf_8_is_named_with_the_position(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"OUTPUT_DIR: caf\xe9\n")
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 0xe9 at position 15"):
        read_yaml_mapping(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfSEED: 1\n")
    assert read_yaml_mapping(path) == {"SEED": 1}


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n" * 100_000)
    with pytest.raises(UserError, match=r"larger than 0\.25 MiB"):
        read_yaml_mapping(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff{}", b"1" * 10_000])
def test_what_is_no_json_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(path)


def test_json_of_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([1]))
    with pytest.raises(UserError, match="holds a list where a dict is expected"):
        read_json(path)
    assert read_json(path, expected=list) == [1]


def test_a_folder_and_a_missing_file_are_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="cannot be read"):
            read_json(path)
