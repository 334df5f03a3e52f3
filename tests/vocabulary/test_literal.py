import pytest

from frozenseg.errors import UserError
from frozenseg.vocabulary import builtin_vocabulary, class_table
from frozenseg.vocabulary.literal import literal_vocabulary


def test_a_name_with_commas_is_one_string() -> None:
    full = literal_vocabulary("ade20k_847")
    assert "road, route" in full.names
    assert all(len(synonyms) == 1 for synonyms in full.synonyms)


def test_ade20k_has_detectron2s_short_names_42_of_which_are_its_own() -> None:
    literal = literal_vocabulary("ade20k_150")
    official = [row.name for row in class_table("ade20k_150")]
    different = [pair for pair in zip(literal.names, official, strict=True) if len(set(pair)) > 1]
    assert len(different) == 42
    assert different[:3] == [
        ("building", "building, edifice"),
        ("floor", "floor, flooring"),
        ("window", "windowpane, window"),
    ]
    short, full = class_table("ade20k_150_short"), class_table("ade20k_150")
    assert [row.dataset_id for row in short] == [row.dataset_id for row in full]
    kept = builtin_vocabulary("ade20k_150")
    assert (literal.is_thing, literal.colors) == (kept.is_thing, kept.colors)


def test_pascal_keeps_its_own_spelling() -> None:
    assert {"diningtable", "pottedplant"} <= set(literal_vocabulary("pascal_voc_20").names)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="no built-in vocabulary"):
        literal_vocabulary("ade20k_150_short")
