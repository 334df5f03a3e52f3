"""The symmetric CLIP loss, by hand."""

import math

import pytest
import torch

from frozenseg.losses.contrastive import clip_loss


def test_two_pairs_by_hand() -> None:
    """Cosines 1 and 0.6 for the first image, 0 and 0.8 for the second; a scale of 2."""
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])

    def entropy(right: float, wrong: float) -> float:
        return math.log(1 + math.exp(2 * (wrong - right)))

    by_image = (entropy(1, 0.6) + entropy(0.8, 0)) / 2
    by_text = (entropy(1, 0) + entropy(0.8, 0.6)) / 2
    expected = (by_image + by_text) / 2
    assert clip_loss(images, texts, 2.0).item() == pytest.approx(expected, abs=1e-6)


def test_equal_texts_are_negatives() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert clip_loss(rows, rows, 100.0).item() == pytest.approx(math.log(2))
