"""Class names of a user as literal strings."""

import pytest

from frozenseg.errors import UserError
from frozenseg.vocabulary import parse_vocabulary
from frozenseg.vocabulary.literal import literal_vocabulary
from frozenseg.vocabulary.literal_names import literal_names, with_others


def test_commas_stay_in_the_name() -> None:
    assert literal_names("road, route; sky").synonyms == (("road, route",), ("sky",))
    assert literal_names(["road, route", " sky "]).synonyms == (("road, route",), ("sky",))


def test_a_built_in_list_has_its_literal_names() -> None:
    assert literal_names("ade20k_150") == literal_vocabulary("ade20k_150")


def test_flags_and_colours_come_from_another_vocabulary() -> None:
    like = parse_vocabulary(["a", "b [stuff]"])
    assert literal_names(["cat", "grass"], like=like).is_thing == (True, False)
    with pytest.raises(UserError, match="3 classes where 2 are expected"):
        literal_names(["cat", "grass", "sky"], like=like)


def test_a_single_class_gets_others_beside_it() -> None:
    assert with_others(literal_names("water")).names == ("water", "others")
    assert with_others(literal_names("water; sky")).names == ("water", "sky")


@pytest.mark.parametrize(
    ("names", "message"),
    [(" ; ", "no class"), (["a", " "], "class 2 has an empty"), ("a;b;a", "'a' is given twice")],
)
def test_mistakes_are_one_sentence(names, message) -> None:
    with pytest.raises(UserError, match=message):
        literal_names(names)
