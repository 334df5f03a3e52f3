import pytest
import torch
from torch import Tensor

from frozenseg.inference.mask_ensemble import (
    SamProposals,
    ensemble_weights,
    select_proposals,
)
from frozenseg.inference.semantic import class_maps

SEEN = torch.tensor([True, False])
MAPS = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])  # two classes on two pixels
CLASSES = torch.tensor([[1.0, 3.0, 0.5], [2.0, 4.0, 0.5]])  # of two queries, one on each pixel


def proposals(logits: list[float], probs: list[float]) -> SamProposals:
    """One mask over the two pixels."""
    return SamProposals(torch.tensor(logits).view(1, 1, 2), torch.tensor([probs]))


def ensemble_masks(sam: SamProposals, seen: Tensor, **options: float) -> Tensor:
    """The maps of two certain queries, which are ``MAPS``, mixed with those of SAM's masks."""
    weights = ensemble_weights(CLASSES, sam, seen, **options)
    queries = class_maps(weights.queries, torch.eye(2).view(2, 1, 2))
    return queries + class_maps(weights.sam, sam.mask_logits.sigmoid())


def logits_of(*probs: list[float]) -> Tensor:
    return torch.tensor(probs).log()


def test_unseen_maps_are_mixed_by_hand() -> None:
    """A mask at logit 0 weighs one half: 0.8 * 3 + 0.2 * 0.6 * 0.5 = 2.46."""
    mixed = ensemble_masks(proposals([0.0, 100.0], [0.3, 0.6, 0.1]), SEEN)
    expected = torch.tensor([[[1.0, 2.0]], [[2.46, 0.8 * 4 + 0.2 * 0.6]]])
    torch.testing.assert_close(mixed, expected)


def test_masks_of_the_same_class_add_up() -> None:
    both = SamProposals(
        torch.full((2, 1, 2), 100.0), torch.tensor([[0.0, 0.6, 0.4], [0.0, 0.9, 0.1]])
    )
    mixed = ensemble_masks(both, SEEN, epsilon=0.5)
    torch.testing.assert_close(mixed[1], (MAPS[1] + 1.5) / 2)


def test_without_a_proposal_the_maps_stay_exactly_as_they_are() -> None:
    nothing = SamProposals(torch.zeros(0, 1, 2), torch.zeros(0, 3))
    assert torch.equal(ensemble_masks(nothing, SEEN), MAPS)


def test_weight_zero_changes_nothing_and_seen_classes_never_change() -> None:
    some = proposals([3.0, -3.0], [0.0, 0.9, 0.1])
    assert torch.equal(ensemble_masks(some, SEEN, epsilon=0.0), MAPS)
    assert torch.equal(ensemble_masks(some, torch.tensor([True, True])), MAPS)
    assert torch.equal(ensemble_masks(some, SEEN)[0], MAPS[0])


def test_where_all_classes_are_unseen_all_are_mixed() -> None:
    some = proposals([100.0, 100.0], [0.4, 0.5, 0.1])
    mixed = ensemble_masks(some, torch.tensor([False, False]))
    torch.testing.assert_close(mixed, 0.8 * MAPS + 0.2 * torch.tensor([0.4, 0.5]).view(2, 1, 1))


def test_a_mask_is_kept_for_an_unseen_class_above_one_half() -> None:
    masks = torch.arange(4.0).view(4, 1, 1)
    logits = logits_of([0.2, 0.6, 0.2], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.01, 0.51, 0.48])
    kept = select_proposals(masks, logits, SEEN)
    assert kept.mask_logits.flatten().tolist() == [0.0, 3.0]
    torch.testing.assert_close(kept.class_probs[0], torch.tensor([0.2, 0.6, 0.2]))


def test_void_counts_when_probabilities_are_made_but_never_keeps_a_mask() -> None:
    masks, logits = torch.zeros(1, 1, 1), logits_of([0.1, 0.3, 0.6])
    assert len(select_proposals(masks, logits, SEEN).mask_logits) == 0


@pytest.mark.parametrize(("seen", "kept"), [([True, True], 0), ([False, False], 2)])
def test_all_seen_keeps_none_and_all_unseen_any_sure_one(seen: list[bool], kept: int) -> None:
    logits = logits_of([0.2, 0.7, 0.1], [0.7, 0.2, 0.1])
    assert (
        len(select_proposals(torch.zeros(2, 1, 1), logits, torch.tensor(seen)).class_probs) == kept
    )


def test_no_mask_at_all_is_no_error() -> None:
    empty = select_proposals(torch.zeros(0, 1, 2), torch.zeros(0, 3), SEEN)
    assert torch.equal(ensemble_masks(empty, SEEN), MAPS)
