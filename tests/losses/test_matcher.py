import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from frozenseg.losses.matcher import HungarianMatcher, Match, pack_targets
from frozenseg.losses.point_sampling import sample_points
from frozenseg.structures import Prediction, Target


def random_prediction(*, images: int, queries: int, classes: int = 4, seed: int = 0) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    return Prediction(
        class_logits=torch.randn(images, queries, classes + 1, generator=generator),
        mask_logits=3 * torch.randn(images, queries, 8, 8, generator=generator),
    )


def random_targets(counts: list[int], *, classes: int = 4, seed: int = 0) -> list[Target]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Target(
            class_ids=torch.randint(classes, (count,), generator=generator),
            masks=torch.rand(count, 16, 16, generator=generator) > 0.5,
        )
        for count in counts
    ]


def random_points(images: int, *, seed: int = 0) -> torch.Tensor:
    return torch.rand(images, 50, 2, generator=torch.Generator().manual_seed(seed))


def pairs_of(match: Match, image: int) -> list[tuple[int, int]]:
    own = match.image_ids == image
    return list(zip(match.query_ids[own].tolist(), match.target_ids[own].tolist(), strict=True))


def cost_by_definition(prediction, points, target, image: int, query: int, n: int) -> float:
    probs = prediction.class_logits[image, query].softmax(-1)
    logits = sample_points(prediction.mask_logits[image : image + 1], points[image : image + 1])[
        0, query
    ]
    labels = sample_points(target.masks[None].float(), points[image : image + 1])[0, n]
    overlap = (logits.sigmoid() * labels).sum()
    dice = 1 - (2 * overlap + 1) / (logits.sigmoid().sum() + labels.sum() + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, labels)
    return float(5 * entropy + 5 * dice - 2 * probs[target.class_ids[n]])


def test_costs_are_those_of_the_definition_pair_by_pair():
    prediction, targets, points = (
        random_prediction(images=2, queries=3),
        random_targets([2, 1]),
        random_points(2),
    )
    costs = HungarianMatcher().costs(prediction, points, pack_targets(targets))
    for image, target in enumerate(targets):
        for query, n in itertools.product(range(3), range(len(target.class_ids))):
            expected = cost_by_definition(prediction, points, target, image, query, n)
            assert costs[image, query, n].item() == pytest.approx(expected, abs=1e-5)


def test_the_assignment_is_the_cheapest_of_all_permutations():
    prediction, targets, points = (
        random_prediction(images=3, queries=5),
        random_targets([3, 2, 4]),
        random_points(3),
    )
    matcher, packed = HungarianMatcher(), pack_targets(targets)
    costs = matcher.costs(prediction, points, packed)
    (match,) = matcher([prediction], packed, [points])
    for image, target in enumerate(targets):
        columns = range(len(target.class_ids))
        cheapest = min(
            itertools.permutations(range(5), len(target.class_ids)),
            key=lambda rows: sum(
                costs[image, row, n].item() for row, n in zip(rows, columns, strict=True)
            ),
        )
        assert pairs_of(match, image) == sorted(zip(cheapest, columns, strict=True))


def test_permuting_queries_permutes_the_match():
    prediction, packed, points = (
        random_prediction(images=1, queries=6),
        pack_targets(random_targets([4])),
        random_points(1),
    )
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    permuted = Prediction(prediction.class_logits[:, order], prediction.mask_logits[:, order])
    plain, moved = HungarianMatcher()([prediction, permuted], packed, [points, points])
    assert {(order[query].item(), n) for query, n in pairs_of(moved, 0)} == set(pairs_of(plain, 0))


def test_more_targets_than_queries_leaves_targets_over():
    (match,) = HungarianMatcher()(
        [random_prediction(images=1, queries=2)],
        pack_targets(random_targets([5])),
        [random_points(1)],
    )
    assert match.query_ids.tolist() == [0, 1]
    assert len(set(match.target_ids.tolist())) == 2


def test_an_image_without_targets_has_no_pairs():
    packed = pack_targets(random_targets([0, 2]))
    (match,) = HungarianMatcher()(
        [random_prediction(images=2, queries=3)], packed, [random_points(2)]
    )
    assert match.image_ids.tolist() == [1, 1]


def test_a_batch_without_targets_has_no_pairs():
    packed = pack_targets(random_targets([0, 0]))
    (match,) = HungarianMatcher()(
        [random_prediction(images=2, queries=3)], packed, [random_points(2)]
    )
    assert [len(ids) for ids in match] == [0, 0, 0]


@pytest.mark.parametrize(("broken", "name"), [(0, "prediction 0"), (2, "final prediction")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_prediction_is_named(broken: int, name: str, value: float):
    predictions = [random_prediction(images=2, queries=3, seed=seed) for seed in range(3)]
    predictions[broken].mask_logits[1, 2] = value
    packed = pack_targets(random_targets([1, 2]))
    with pytest.raises(FloatingPointError, match=f"the {name} .of 3"):
        HungarianMatcher()(predictions, packed, [random_points(2)] * 3)


def test_costs_stay_float32_under_autocast():
    prediction, packed, points = (
        random_prediction(images=1, queries=3),
        pack_targets(random_targets([2])),
        random_points(1),
    )
    expected = HungarianMatcher().costs(prediction, points, packed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        costs = HungarianMatcher().costs(prediction, points, packed)
    assert costs.dtype == torch.float32
    torch.testing.assert_close(costs, expected, rtol=0, atol=0)


def test_matches_are_sorted_by_image_and_query():
    (match,) = HungarianMatcher()(
        [random_prediction(images=3, queries=6)],
        pack_targets(random_targets([4, 2, 3])),
        [random_points(3)],
    )
    assert np.all(np.diff(match.image_ids * 6 + match.query_ids) > 0)


def test_unequal_numbers_of_ids_and_masks_are_reported():
    with pytest.raises(ValueError, match="target 0 has 3 class_ids but 2 masks"):
        pack_targets([Target(torch.zeros(3).long(), torch.zeros(2, 4, 4).bool())])


def test_masks_of_different_sizes_are_reported():
    small = Target(torch.zeros(1).long(), torch.zeros(1, 4, 4).bool())
    large = Target(torch.zeros(1).long(), torch.zeros(1, 4, 8).bool())
    with pytest.raises(ValueError, match=r"\(4, 4\), \(4, 8\)"):
        pack_targets([small, large])
