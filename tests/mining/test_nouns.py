"""Nouns of captions: what a part-of-speech tagger would call one, without its downloads."""

import pytest

from frozenseg.data.shapes import all_names
from frozenseg.mining.nouns import find_nouns, find_phrases, other_words


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("A man riding a wave on top of a surfboard.", "man wave top surfboard"),
        (
            "A room with a toilet, sink and shower curtain",
            "room toilet sink shower curtain",
        ),
        ("Two dogs play with a frisbee in the green grass.", "dogs frisbee grass"),
        ("A woman is slicing a cake while people watch", "woman cake people"),
        ("A cross, a ring and a striped red star on water", "cross ring star water"),
        ("The couch's pillow is very soft", "couch pillow"),
        ("A man, standing near a car, holds 2 bags", "man car bags"),
        ("a bear near the black bear", "bear"),
        ("It is very beautiful and they are running", ""),
        ("", ""),
        ("12 34 !!", ""),
    ],
)
def test_nouns_of_captions(caption: str, nouns: str) -> None:
    assert find_nouns(caption) == nouns.split()


def test_an_unknown_word_is_a_noun() -> None:
    assert find_nouns("A zorkmid-detector next to the blorp") == ["zorkmid-detector", "blorp"]


def test_the_word_list_ships_with_its_kinds() -> None:
    words = other_words()
    assert len(words) > 15_000
    assert words["riding"] == "participle" and words["the"] == "determiner"
    assert "dog" not in words and "surfboard" not in words


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("A dotted red star, a ring on wet sand", ["dotted red star", "ring", "wet sand"]),
        ("A man riding a big wave", ["man", "big wave"]),
        ("People watching television near a parked car", ["people", "television", "parked car"]),
        ("a bear near the black bear", ["bear", "black bear"]),
        ("It is red and very beautiful", []),
    ],
)
def test_phrases_keep_the_adjectives_of_a_noun(caption: str, phrases: list[str]) -> None:
    assert find_phrases(caption) == phrases


def test_every_name_of_the_shapes_world_is_a_phrase() -> None:
    names = all_names()
    assert [find_phrases(f"There is a {name} on it.") for name in names] == [[n] for n in names]
