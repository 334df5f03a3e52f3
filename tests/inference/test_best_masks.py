"""The demo's rule on three masks and two classes."""

import torch

from frozenseg.inference.best_masks import keep_best_masks
from frozenseg.inference.semantic import class_maps

PROBS = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0]])
ALL = torch.tensor([True, True, True])


def test_every_class_keeps_its_best_mask_with_all_its_scores() -> None:
    expected = PROBS * torch.tensor([[1.0], [0.0], [1.0]])
    assert torch.equal(keep_best_masks(PROBS, ALL), expected)


def test_a_mask_that_was_not_judged_is_never_kept() -> None:
    kept = keep_best_masks(PROBS, torch.tensor([False, True, True]))
    assert kept.any(dim=1).tolist() == [False, True, True]
    assert not keep_best_masks(PROBS, ~ALL).any()


def test_a_class_that_is_not_shown_chooses_no_mask() -> None:
    assert keep_best_masks(PROBS, ALL, num_shown=1).any(dim=1).tolist() == [True, False, False]


def test_a_mask_that_is_best_twice_counts_once() -> None:
    probs = torch.tensor([[0.9, 0.8, 0.0], [0.1, 0.2, 0.0]])
    masks = torch.zeros(2, 1, 2)
    masks[0, 0, 0] = masks[1, 0, 1] = 1
    maps = class_maps(keep_best_masks(probs, torch.tensor([True, True]))[:, :-1], masks)
    torch.testing.assert_close(maps[:, 0], torch.tensor([[0.9, 0.0], [0.8, 0.0]]))
