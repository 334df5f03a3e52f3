import math

import pytest
import torch

from frozenseg.metrics import Classes, RecallEvaluator
from frozenseg.metrics.recall import best_overlaps


def masks_of(*rows: str) -> torch.Tensor:
    return torch.tensor([[[pixel == "#" for pixel in row]] for row in rows])


def test_a_region_is_found_by_any_mask_above_the_threshold():
    target = torch.tensor([[0] * 4 + [1] * 4 + [2] * 2])
    proposals = masks_of(
        "#####.....",  # class 0: 4 of 5, IoU 0.8
        "....##....",  # class 1: 2 of 4, exactly 0.5
        "........##",  # class 2: 1
    )
    evaluator = RecallEvaluator(Classes(4, seen=(True, False, False, True)))
    evaluator.process(proposals, target)
    metrics = evaluator.evaluate()
    assert metrics["recall/R50"] == pytest.approx(100 * 2 / 3)  # an IoU of one half is not above it
    assert metrics["recall/R75"] == pytest.approx(100 * 2 / 3)
    assert metrics["recall/R90"] == pytest.approx(100 * 1 / 3)
    assert metrics["recall/seen/R75"] == 100
    assert metrics["recall/seen/R90"] == 0
    assert metrics["recall/unseen/R50"] == 50


def test_recall_counts_regions_so_a_frequent_class_weighs_more():
    evaluator = RecallEvaluator(Classes(2))
    for found in (True, True, False):
        evaluator.process(masks_of("##.." if found else "...#"), torch.tensor([[0, 0, 255, 255]]))
    evaluator.process(masks_of("...."), torch.tensor([[1, 1, 1, 1]]))
    assert evaluator.evaluate()["recall/R50"] == pytest.approx(50)
    assert [row["R50"] for row in evaluator.per_class()] == pytest.approx([200 / 3, 0])
    assert [row["regions"] for row in evaluator.per_class()] == [3, 1]


def test_without_proposals_nothing_is_found():
    evaluator = RecallEvaluator(Classes(1))
    evaluator.process(torch.zeros(0, 1, 2, dtype=torch.bool), torch.tensor([[0, 0]]))
    assert evaluator.evaluate()["recall/R50"] == 0


def test_nothing_annotated_leaves_no_number():
    evaluator = RecallEvaluator(Classes(1))
    evaluator.process(masks_of("##"), torch.tensor([[255, 255]]))
    assert math.isnan(evaluator.evaluate()["recall/R50"])


def test_overlaps_are_those_of_a_loop_over_masks_and_classes():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(70, 9, 11, generator=generator) > 0.6
    target = torch.randint(5, (9, 11), generator=generator)
    target[0] = 255
    class_ids, best = best_overlaps(masks, target, ignore_label=255)
    assert class_ids.tolist() == [0, 1, 2, 3, 4]
    for class_id, iou in zip(class_ids.tolist(), best, strict=True):
        region = target == class_id
        expected = max(((mask & region).sum() / (mask | region).sum()).item() for mask in masks)
        assert iou == pytest.approx(expected, rel=1e-6)


def test_splitting_the_stream_and_merging_equals_one_stream():
    generator = torch.Generator().manual_seed(1)
    whole, first, second = (RecallEvaluator(Classes(3)) for _ in range(3))
    for index in range(6):
        target = torch.randint(3, (2, 3), generator=generator)
        masks = torch.rand(4, 2, 3, generator=generator) > 0.5
        whole.process(masks, target)
        (first if index % 2 else second).process(masks, target)
    first.merge(second.state_dict())
    assert first.evaluate() == whole.evaluate()


def test_masks_of_another_size_are_reported():
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(1, 3\)"):
        RecallEvaluator(Classes(1)).process(masks_of("##"), torch.zeros(1, 3).long())
