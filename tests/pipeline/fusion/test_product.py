"""Scores worked out by hand: two masks, two classes."""

import pytest
import torch
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.pipeline.fusion.product import Product

SEEN = torch.tensor([True, False])
BOTH = torch.tensor([True, True])
# softmax: (0.5, 0.25, void 0.25) and (0.1, 0.1, void 0.8)
PROPOSED = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]).log()
REGIONS = torch.tensor([[0.2, 0.8], [0.9, 0.1]]).log()


def fused(judged: Tensor = BOTH, **settings) -> Tensor:
    return Product(**settings)(PROPOSED, REGIONS, SEEN, judged)


def test_scores_are_a_product_of_powers_and_void_has_none() -> None:
    expected = torch.tensor(
        [
            [0.5**0.3 * 0.2**0.7, 0.25**0.3 * 0.8**0.7, 0],
            [0.1**0.3 * 0.9**0.7, 0.1**0.3 * 0.1**0.7, 0],
        ]
    )
    torch.testing.assert_close(fused(), expected)


def test_exponent_0_leaves_the_region_classifier_alone_on_judged_masks() -> None:
    scores = fused(torch.tensor([False, True]), exponent=0.0)
    torch.testing.assert_close(scores, torch.tensor([[0.0, 0, 0], [0.9, 0.1, 0]]))
    without = Product(exponent=0.0)(None, REGIONS, SEEN, BOTH)
    torch.testing.assert_close(without, torch.tensor([[0.2, 0.8, 0], [0.9, 0.1, 0]]))


def test_exponent_1_ignores_the_proposer() -> None:
    torch.testing.assert_close(fused(exponent=1.0)[:, :-1], REGIONS.exp())


def test_an_invalid_mask_gets_no_score_by_default() -> None:
    scores = fused(torch.tensor([True, False]))
    assert torch.equal(scores[1], torch.zeros(3))
    torch.testing.assert_close(scores[0], fused()[0])


def test_officially_an_invalid_mask_scores_as_if_clip_were_certain_of_every_class() -> None:
    judged = torch.tensor([True, False])
    scores = fused(judged, invalid="official")
    torch.testing.assert_close(scores[1, :-1], torch.tensor([0.1**0.3, 0.1**0.3]))
    torch.testing.assert_close(scores[0], fused()[0])
    assert scores[1].max() > fused()[1].max()


@pytest.mark.parametrize("invalid", ["exclude", "official"])
def test_without_any_valid_mask_the_proposer_decides(invalid) -> None:
    scores = fused(torch.tensor([False, False]), invalid=invalid)
    torch.testing.assert_close(scores[:, :-1], PROPOSED.exp()[:, :-1] ** 0.3)


def test_class_probabilities_are_computed_in_float32() -> None:
    half = Product()(PROPOSED.half(), REGIONS.half(), SEEN, BOTH)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, fused(), rtol=2e-3, atol=2e-3)


def test_a_proposer_without_classes_is_refused_unless_the_exponent_is_0() -> None:
    with pytest.raises(UserError, match="proposer that classifies"):
        Product()(None, REGIONS, SEEN, BOTH)


@pytest.mark.parametrize("settings", [{"exponent": 1.2}, {"exponent": -0.1}, {"invalid": "drop"}])
def test_unknown_settings_are_refused(settings) -> None:
    with pytest.raises(UserError, match="set it to"):
        Product(**settings)
