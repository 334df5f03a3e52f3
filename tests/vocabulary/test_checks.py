"""Names that are cut off, and classes that the text encoder cannot tell apart."""

import pytest
import torch

from frozenseg.errors import UserError
from frozenseg.towers.loading import load_clip
from frozenseg.vocabulary import Vocabulary, embed_vocabulary, parse_vocabulary
from frozenseg.vocabulary.checks import ROUNDING, check_distinct, equal_rows, warn_about_cut_phrases


def vocabulary(*classes: tuple[str, ...]) -> Vocabulary:
    return Vocabulary(classes, (True,) * len(classes))


def rows(*angles: float) -> torch.Tensor:
    return torch.tensor([[torch.tensor(a).cos(), torch.tensor(a).sin()] for a in angles])


def test_a_class_equal_to_an_earlier_one_is_refused() -> None:
    with pytest.raises(UserError, match="classes 'cat' and 'Cat' have equal text embeddings"):
        check_distinct(vocabulary(("cat",), ("dog",), ("Cat",)), rows(0, 1, 0))


def test_a_class_whose_every_synonym_is_taken_by_earlier_ones_is_refused() -> None:
    with pytest.raises(UserError, match="'cat' and 'CAT' have equal"):
        check_distinct(vocabulary(("cat",), ("dog",), ("CAT", "DOG")), rows(0, 1, 0, 1))


def test_a_shared_synonym_is_reported_and_the_class_kept(caplog) -> None:
    check_distinct(vocabulary(("box", "case"), ("case", "bag")), rows(0, 1, 1, 2))
    assert "two classes share the synonym 'case'" in caplog.text


def test_the_same_string_in_two_classes_is_only_reported(caplog) -> None:
    check_distinct(vocabulary(("box", "case"), ("case",)), rows(0, 1, 1))
    assert "two classes share the synonym 'case'" in caplog.text


def test_equal_synonyms_of_one_class_and_distinct_classes_are_no_problem(caplog) -> None:
    check_distinct(vocabulary(("TV", "tv"), ("cat",)), rows(0, 0, 0.01))
    assert not [each for each in caplog.records if each.levelname == "WARNING"]


def test_a_name_beyond_the_context_is_named_with_what_counts(caplog) -> None:
    def count(prompt: str) -> tuple[int, int]:
        total = len(prompt.split())
        return total, min(total, 6)

    warn_about_cut_phrases(["a b", "a b c d e"], ("photo of {}", "{}"), count)
    assert "'a b c d e' (4 of 5 tokens count)" in caplog.text and "'a b' " not in caplog.text


def test_a_phrase_is_counted_once_whatever_the_number_of_templates() -> None:
    counted: list[str] = []

    def count(prompt: str) -> tuple[int, int]:
        counted.append(prompt)
        return len(prompt.split()), len(prompt.split())

    warn_about_cut_phrases(["cat", "dog"], ("{}", "a photo of {}", "a {}"), count)
    assert [each for each in counted if "cat" in each or "dog" in each] == [
        "a photo of cat",
        "a photo of dog",
    ]


def test_pairs_of_equal_rows_are_those_of_comparing_every_row_with_every_other() -> None:
    found = torch.nn.functional.normalize(torch.randn(60, 5).mul(2).round(), dim=-1)
    found[50:] = found[:10] + 0.9 * ROUNDING
    found[40:50] = found[:10] + 1.1 * ROUNDING
    near = (found[:, None] - found).abs().amax(dim=-1) < ROUNDING
    assert equal_rows(found) == [tuple(pair) for pair in near.triu(1).nonzero().tolist()]
    assert len(equal_rows(found)) >= 10


def test_the_miniature_tells_long_names_apart_or_refuses_them(caplog) -> None:
    clip = load_clip("shapes", "")
    start = "a shape that someone drew by hand on a sheet of paper long ago patience and care a "
    words = parse_vocabulary([start + "striped cyan heart", start + "dotted green circle"])
    with pytest.raises(UserError, match="have equal text embeddings"):
        embed_vocabulary(clip, words)
    assert "longer than the text encoder reads" in caplog.text
    caplog.clear()
    embed_vocabulary(clip, parse_vocabulary(["striped cyan heart", "dotted green circle"]))
    assert not [each for each in caplog.records if each.levelname == "WARNING"]
