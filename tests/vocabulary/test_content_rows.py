import pytest
import torch

from frozenseg.vocabulary.content_rows import ContentRows
from frozenseg.vocabulary.text_classifier import TextClassifier

WORDS = TextClassifier(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
ROWS = ContentRows(WORDS, lambda rows, clip_map: rows * clip_map.mean())


def test_the_proposer_gets_the_words_whatever_the_image() -> None:
    assert ROWS.for_image(torch.ones(1, 4, 2, 2)) is WORDS
    assert ROWS.for_image(None) is WORDS
    assert ROWS.num_classes == 2


def test_regions_are_classified_by_rows_of_the_image_that_are_not_normalised_again() -> None:
    rows = ROWS.for_regions().for_image(torch.full((1, 4, 2, 2), 3.0))
    # cosines of (2, 0) with the rows times 3: the best synonym of the first class has 1
    assert rows.logits(torch.tensor([[2.0, 0.0]]), 10.0).tolist() == [[30.0, 0.0]]
    assert rows.num_classes == 2


def test_regions_without_a_map_are_an_error() -> None:
    with pytest.raises(ValueError, match="need its CLIP map"):
        ROWS.for_regions().for_image(None)
