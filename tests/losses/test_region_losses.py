"""Losses of CLIP's classes of predicted masks, by hand: MAFT+'s ranking and OVR's."""

import math

import pytest
import torch

from frozenseg.losses.criterion import MatchedTargets
from frozenseg.losses.matched_regions import MatchedRegionLoss
from frozenseg.losses.ranking import RankingLoss, ranks_of
from frozenseg.losses.region_losses import RegionPredictions
from frozenseg.structures import Target

NO_MATCHES = MatchedTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


def logits_of(*rows: list[float]) -> torch.Tensor:
    """Class logits whose softmax is these rows."""
    return torch.tensor([rows]).log()


def masks(*rows: list[int]) -> torch.Tensor:
    """(1, Q, 1, 4) mask logits that are certain of these pixels."""
    return (torch.tensor([rows]).float()[:, :, None] * 2 - 1) * 30


def target(*pixels: int, class_id: int = 1) -> Target:
    mask = torch.zeros(1, 1, 4, dtype=torch.bool)
    mask[..., list(pixels)] = True
    return Target(torch.tensor([class_id]), mask)


THREE = masks([1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1])  # IoU with the left half: 1, 1/2, 0


def test_masks_are_ranked_by_their_overlap_from_the_worst_to_the_best() -> None:
    found = ranks_of(THREE[0], target(0, 1), (1, 4))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5, 0.0]]))
    # with the whole image: 1/2, 1, 1/4, of which 1/4 is the worst
    found = ranks_of(THREE[0], target(0, 1, 2, 3), (1, 4))
    torch.testing.assert_close(found, torch.tensor([[1 / 3, 1.0, 0.0]]))


def test_overlap_is_soft_and_in_the_padded_image() -> None:
    half_sure = torch.zeros(2, 1, 2)
    half_sure[1] = 30.0
    # 1 row of 2 cells stands for 2 x 4 pixels, of which the target has two of the upper row:
    # sum(g m) is 1 and 2, sum g + sum m - sum(g m) is 2 + 4 - 1 and 2 + 8 - 2
    found = ranks_of(half_sure, target(0, 1), (2, 4))
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0]]))
    third = torch.full((1, 1, 2), -math.log(2))
    found = ranks_of(torch.cat([half_sure, third]), target(0, 1), (2, 4))
    iou = [1 / 5, 2 / 8, (2 / 3) / (2 + 8 / 3 - 2 / 3)]
    expected = (iou[0] - iou[2]) / (iou[1] - iou[2])
    torch.testing.assert_close(found, torch.tensor([[expected, 1.0, 0.0]]))


def test_the_ranking_loss_is_the_smooth_distance_of_probabilities_and_ranks() -> None:
    logits = logits_of([0.2, 0.8], [0.7, 0.3], [0.4, 0.6]).requires_grad_()
    regions = RegionPredictions(logits, THREE, (1, 4))
    loss = RankingLoss(weight=2.0)(regions, [target(0, 1)], NO_MATCHES)["loss_ranking"]
    expected = 2 * sum(0.5 * gap**2 for gap in (0.8 - 1, 0.3 - 0.5, 0.6 - 0)) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert logits.grad is not None and logits.grad[0, 2, 1] > 0, "a wrong mask's class is lowered"


def test_the_ranking_loss_is_a_mean_over_the_targets_of_the_batch() -> None:
    logits = logits_of([0.2, 0.8], [0.7, 0.3], [0.4, 0.6])
    first, second = target(0, 1), target(3, class_id=0)
    both = Target(*(torch.cat(parts) for parts in zip(first, second, strict=True)))
    batch = RegionPredictions(logits.repeat(2, 1, 1), THREE.repeat(2, 1, 1, 1), (1, 4))

    def loss(regions: RegionPredictions, *targets: Target) -> float:
        return RankingLoss()(regions, targets, NO_MATCHES)["loss_ranking"].item()

    one = RegionPredictions(logits, THREE, (1, 4))
    alone = [loss(one, first), loss(one, second)]
    assert loss(batch, both, first) == pytest.approx((2 * alone[0] + alone[1]) / 3, rel=1e-5)


def test_without_targets_the_losses_are_zero_and_have_a_gradient() -> None:
    nothing = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, 4, dtype=torch.bool))
    logits = torch.randn(1, 3, 2, requires_grad=True)
    regions = RegionPredictions(logits, THREE, (1, 4))
    for loss in (RankingLoss(), MatchedRegionLoss()):
        (value,) = loss(regions, [nothing], NO_MATCHES).values()
        value.backward()
        assert value.item() == 0
    assert not logits.grad.any()


def test_ovrs_loss_takes_the_softmax_twice() -> None:
    """Of the matched masks 0 (class 1, probability 0.8) and 2 (class 0, probability 0.4)."""
    regions = RegionPredictions(logits_of([0.2, 0.8], [0.7, 0.3], [0.4, 0.6]), THREE, (1, 4))
    matches = MatchedTargets(torch.tensor([0, 2]), torch.tensor([1, 0]))
    loss = MatchedRegionLoss(weight=0.1)(regions, [], matches)["loss_oov_ce"]
    entropies = math.log(1 + math.exp(0.2 - 0.8)), math.log(1 + math.exp(0.6 - 0.4))
    assert loss.item() == pytest.approx(0.1 * sum(entropies) / 2, rel=1e-5)
