import pytest
import torch

from frozenseg.losses.adapter_criterion import AdapterCriterion
from frozenseg.losses.adapter_masks import (
    PADDING,
    annotated_masks,
    mask_iou,
    matching_pairs,
    mixed_masks,
)
from frozenseg.structures import Target

SIZE = (8, 8)


def halves() -> Target:
    """The left half is 3, the right half 5; a mask without a pixel is 7. Two rows are padding."""
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, :, :4] = masks[1, :, 4:] = True
    return Target(torch.tensor([3, 5, 7]), masks)


def logits(*masks: torch.Tensor) -> torch.Tensor:
    return torch.stack([20 * mask.float() - 10 for mask in masks])


def padded(mask: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(mask, (0, 0, 0, 2))


def pairs_of(mask_logits: torch.Tensor, target: Target, *, count: int = 2, least: float = 0.7):
    return matching_pairs(mask_logits, target, SIZE, least=least, threshold=0.5, count=count)


def test_annotated_masks_lie_in_the_padded_image_without_empty_ones() -> None:
    found = annotated_masks(halves(), SIZE, count=4)
    assert found.masks.shape == (4, 8, 8)
    assert found.class_ids.tolist() == [3, 5, PADDING, PADDING]
    assert found.masks[0, :6, :4].all() and found.masks[0].sum() == 24
    assert not found.masks[2:].any()


def test_a_surplus_is_drawn_at_random() -> None:
    drawn = {int(annotated_masks(halves(), SIZE, count=1).class_ids) for _ in range(30)}
    assert drawn == {3, 5}


def test_iou_by_hand() -> None:
    ours = logits(padded(halves().masks[0]), torch.ones(8, 8))
    theirs = torch.stack([padded(mask).float() for mask in halves().masks])
    expected = torch.tensor([[1, 0, 0], [24 / 64, 24 / 64, 0]])
    torch.testing.assert_close(mask_iou(ours, theirs), expected)


def test_every_annotated_mask_gets_one_of_the_predictions_that_match_it() -> None:
    left = padded(halves().masks[0])
    nearly = left.clone()
    nearly[0, 0] = False
    found = {
        int(pairs_of(logits(left, nearly, ~left), halves()).predicted[0].sum()) for _ in range(40)
    }
    assert found == {23, 24}, "drawn uniformly among those above the threshold"


def test_pairs_are_filled_up_and_none_at_all_is_no_error() -> None:
    left = padded(halves().masks[0])
    some = pairs_of(logits(left), halves(), count=3)
    assert some.class_ids.tolist() == [3, PADDING, PADDING]
    assert torch.equal(some.annotated[0], left.float())
    none = pairs_of(logits(torch.ones(8, 8)), halves(), count=2)
    assert none.class_ids.tolist() == [PADDING, PADDING] and not none.predicted.any()
    nothing = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 8, 8, dtype=torch.bool))
    assert pairs_of(logits(left), nothing, count=1).class_ids.tolist() == [PADDING]


def test_mixed_masks_are_annotated_then_predicted_then_their_partners() -> None:
    annotated = annotated_masks(halves(), SIZE, count=3)
    coarse = logits(torch.tensor([[1, 0], [1, 0]]))
    found = mixed_masks(annotated, pairs_of(coarse, halves(), count=2, least=0.2))
    assert found.class_ids.tolist() == [3, 5, PADDING, 3, PADDING, 3, PADDING]
    assert 0 < found.masks[3, 0, 3] < 1, "soft at its edge after the decoder's size"
    assert found.masks[3, 0, 0] == found.masks[5, 0, 0] == 1
    assert not found.masks[4].any()


def test_cross_entropy_is_over_masks_with_a_class_and_consistency_over_all_pairs() -> None:
    criterion = AdapterCriterion(class_weight=2.0, cos_weight=5.0)
    class_logits = torch.tensor([[[0.0, 0.0], [9.0, -9.0], [1.0, 3.0]]]).log_softmax(-1)
    class_ids = torch.tensor([[0, PADDING, 1]])
    embeddings = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [3.0, 4.0]]], requires_grad=True)
    losses = criterion(class_logits, class_ids, embeddings, num_pairs=1)
    mean = (torch.tensor(0.5).log() + class_logits[0, 2, 1]) / -2
    torch.testing.assert_close(losses["loss_ce"], 2 * mean)
    torch.testing.assert_close(losses["loss_cosine"], torch.tensor(5 * (1 - 0.6)))
    losses["loss_cosine"].backward()
    assert embeddings.grad[0, 1].any() and not embeddings.grad[0, 2].any()


def test_without_a_class_the_loss_is_zero() -> None:
    nothing = torch.full((1, 2), PADDING)
    logits = torch.randn(1, 2, 3, requires_grad=True)
    losses = AdapterCriterion()(logits, nothing, torch.randn(1, 2, 4), num_pairs=0)
    assert losses.keys() == {"loss_ce"}
    assert losses["loss_ce"].item() == pytest.approx(0)
