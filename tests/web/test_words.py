"""Class names as visitors type them."""

import os
from pathlib import Path

import pytest

from frozenseg.data.shapes import all_names, shapes_vocabulary
from frozenseg.errors import UserError
from frozenseg.web.limits import Limits
from frozenseg.web.words import check_words, read_words

LIMITS = Limits(characters=60, classes=3)


def test_semicolons_and_lines_separate_classes_and_commas_synonyms() -> None:
    words = read_words("cat, kitten;\n grass [stuff]\n", LIMITS)
    assert words.synonyms == (("cat", "kitten"), ("grass",))
    assert words.is_thing == (True, False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no class names"),
        (" ;\n; ", "no class names"),
        ("cat; dog; cat", "'cat' appears twice, in entry 1 and entry 3"),
        ("cat,,dog", "empty synonym"),
        ("a; b; c; d", "4 classes, more than 3"),
        ("a" * 61, "61 characters, more than 60"),
        ("cat [thing] [stff]", "write [thing]"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        read_words(text, LIMITS)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_path_is_a_class_name_and_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "x.txt"
    secret.write_text("stolen")
    monkeypatch.chdir(tmp_path)

    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("the file system was asked")

    for name in ("stat", "open", "lstat"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr("builtins.open", refuse)
    for path in (str(secret), "x.txt", "~/x.txt", "ade20k_150"):
        assert read_words(path, Limits()).names == (path,)


def test_the_check_marks_things_and_seen_classes() -> None:
    training = shapes_vocabulary("train")
    known = frozenset(all_names())
    checked = check_words("red circle; lava [stuff]", LIMITS, training=training, known=known)
    assert checked == {
        "classes": [
            {"name": "red circle", "thing": True, "seen": True},
            {"name": "lava", "thing": False, "seen": False},
        ],
        "error": None,
        "note": None,
    }


def test_the_check_notes_names_that_the_miniature_has_never_read() -> None:
    training, known = shapes_vocabulary("train"), frozenset(all_names())
    checked = check_words("dog; red circle", LIMITS, training=training, known=known)
    assert checked["note"] == "The miniature model has never read 'dog'."
    assert check_words("dog; cow", LIMITS, training=training, known=None)["note"] is None


def test_the_check_notes_one_class_with_synonyms() -> None:
    checked = check_words("cat, dog", LIMITS, training=shapes_vocabulary("train"), known=None)
    assert "separate classes with ';'" in str(checked["note"])


def test_the_check_returns_a_mistake_instead_of_raising() -> None:
    checked = check_words("a; a", LIMITS, training=shapes_vocabulary("train"), known=None)
    assert checked["classes"] == [] and "appears twice" in str(checked["error"])
