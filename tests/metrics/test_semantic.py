import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenseg.metrics import Classes, SemanticEvaluator
from frozenseg.metrics.semantic import count_pixels

IGNORE = 255


def evaluate(
    prediction: list, target: list, *, num_classes: int = 4, seen=None
) -> dict[str, float]:
    evaluator = SemanticEvaluator(Classes(num_classes, seen=seen))
    evaluator.process(torch.tensor(prediction), torch.tensor(target))
    return evaluator.evaluate()


def test_an_image_worked_by_hand():
    target = [[0, 0, 0, 1], [0, 1, 1, IGNORE]]
    prediction = [[0, 0, 1, 1], [0, 1, 2, 3]]
    metrics = evaluate(prediction, target, seen=(True, False, True, True))
    iou_0, iou_1 = (
        3 / 4,
        2 / 4,
    )  # class 2 is only predicted; the pixel under 3 is not counted at all
    assert metrics["semantic/mIoU"] == pytest.approx(100 * (iou_0 + iou_1) / 2)
    assert metrics["semantic/mIoU_predicted_too"] == pytest.approx(100 * (iou_0 + iou_1 + 0) / 3)
    assert metrics["semantic/FWIoU"] == pytest.approx(100 * (4 / 7 * iou_0 + 3 / 7 * iou_1))
    assert metrics["semantic/pixel_accuracy"] == pytest.approx(100 * 5 / 7)
    assert metrics["semantic/mean_accuracy"] == pytest.approx(100 * (3 / 4 + 2 / 3) / 2)
    assert metrics["semantic/seen/mIoU"] == pytest.approx(100 * iou_0)
    assert metrics["semantic/unseen/mIoU"] == pytest.approx(100 * iou_1)


def test_frequencies_and_accuracy_of_a_group_are_those_among_its_own_pixels():
    target = [[0, 0, 0, 0, 0, 1, 1], [2, 2, 2, 3, 3, IGNORE, IGNORE]]
    prediction = [[0, 0, 0, 0, 2, 1, 0], [2, 2, 0, 2, 3, 0, 1]]
    metrics = evaluate(prediction, target, seen=(True, False, True, False))
    iou_0, iou_1, iou_2, iou_3 = 4 / 7, 1 / 2, 2 / 5, 1 / 2
    fwiou = (5 * iou_0 + 2 * iou_1 + 3 * iou_2 + 2 * iou_3) / 12
    assert metrics["semantic/FWIoU"] == pytest.approx(100 * fwiou)
    assert metrics["semantic/seen/FWIoU"] == pytest.approx(100 * (5 * iou_0 + 3 * iou_2) / 8)
    assert metrics["semantic/unseen/FWIoU"] == pytest.approx(100 * (2 * iou_1 + 2 * iou_3) / 4)
    assert metrics["semantic/pixel_accuracy"] == pytest.approx(100 * 8 / 12)
    assert metrics["semantic/seen/pixel_accuracy"] == pytest.approx(100 * 6 / 8)
    assert metrics["semantic/unseen/pixel_accuracy"] == pytest.approx(100 * 2 / 4)


def test_a_group_without_an_annotated_pixel_has_no_number():
    metrics = evaluate([[0, 1]], [[0, 0]], seen=(True, False, False, False))
    assert metrics["semantic/seen/FWIoU"] == metrics["semantic/FWIoU"] == 50
    assert metrics["semantic/unseen/mIoU_predicted_too"] == 0
    for measure in ("mIoU", "FWIoU", "pixel_accuracy", "mean_accuracy"):
        assert math.isnan(metrics[f"semantic/unseen/{measure}"])


def test_rows_hold_what_the_averages_are_made_of():
    evaluator = SemanticEvaluator(Classes(3, names=("cat", "grass", "sky")))
    evaluator.process(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]))
    cat, grass, sky = evaluator.per_class()
    assert (cat["IoU"], cat["accuracy"], cat["annotated_px"]) == (50.0, 50.0, 2)
    assert (grass["IoU"], grass["predicted_px"]) == (50.0, 2)
    assert sky["name"] == "sky" and math.isnan(sky["IoU"])


def test_one_confusion_matrix_over_all_images_not_a_mean_of_images():
    evaluator = SemanticEvaluator(Classes(2))
    evaluator.process(torch.tensor([[0, 0, 0, 0]]), torch.tensor([[0, 0, 0, 0]]))
    evaluator.process(torch.tensor([[1]]), torch.tensor([[0]]))
    assert evaluator.evaluate()["semantic/mIoU"] == pytest.approx(80)


def test_nothing_annotated_leaves_no_number():
    metrics = evaluate([[0, 1]], [[IGNORE, IGNORE]])
    assert all(math.isnan(value) for value in metrics.values())


def test_one_class_alone_is_its_own_average():
    metrics = evaluate([[0, 0]], [[0, 0]], num_classes=1)
    assert set(metrics.values()) == {100.0}


def test_a_16_bit_ignore_label_is_understood():
    target = torch.tensor([[65535, 846]], dtype=torch.int32)
    evaluator = SemanticEvaluator(Classes(847), ignore_label=65535)
    evaluator.process(torch.tensor([[3, 846]], dtype=torch.int16), target)
    assert evaluator.evaluate()["semantic/mIoU"] == 100


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        ([[4]], [[0]], "predicted class id 4 is not among the 4 classes"),
        ([[-1]], [[0]], "predicted class id -1"),
        ([[0]], [[7]], "annotated class id 7 .* not the ignore label 255"),
        ([[0, 0]], [[0]], r"\(1, 2\).*\(1, 1\)"),
    ],
)
def test_impossible_ids_and_sizes_are_reported(prediction, target, message: str):
    with pytest.raises(ValueError, match=message):
        evaluate(prediction, target)


def label_maps(num_classes: int = 3):
    return st.lists(
        st.tuples(st.integers(0, num_classes - 1), st.sampled_from([*range(num_classes), IGNORE])),
        min_size=1,
        max_size=30,
    ).map(lambda pixels: torch.tensor(pixels).T.reshape(2, 1, -1))


@given(label_maps())
@settings(max_examples=100, deadline=None)
def test_the_confusion_matrix_is_that_of_a_loop_over_pixels(maps):
    expected = np.zeros((3, 3), dtype=np.int64)
    for predicted, annotated in maps.flatten(1).T.tolist():
        if annotated != IGNORE:
            expected[annotated, predicted] += 1
    found = count_pixels(*maps.numpy(), num_classes=3, ignore_label=IGNORE)
    np.testing.assert_array_equal(found, expected)


@given(label_maps())
@settings(max_examples=50, deadline=None)
def test_a_perfect_prediction_scores_100(maps):
    target = maps[1]
    metrics = evaluate(
        torch.where(target == IGNORE, 0, target).tolist(), target.tolist(), num_classes=3
    )
    assert all(math.isnan(value) or value == pytest.approx(100) for value in metrics.values())


@given(st.lists(label_maps(), min_size=1, max_size=5), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_splitting_the_stream_and_merging_equals_one_stream(images, cut: int):
    whole, first, second = (SemanticEvaluator(Classes(3)) for _ in range(3))
    for index, (prediction, target) in enumerate(images):
        whole.process(prediction, target)
        (first if index < cut else second).process(prediction, target)
    first.merge(second.state_dict())
    np.testing.assert_equal(first.evaluate(), whole.evaluate())


@given(label_maps())
@settings(max_examples=30, deadline=None)
def test_renaming_classes_permutes_the_rows_and_keeps_the_averages(maps):
    order = torch.tensor([2, 0, 1])
    renamed = torch.where(maps == IGNORE, IGNORE, order[maps.clamp(max=2)])
    plain, changed = SemanticEvaluator(Classes(3)), SemanticEvaluator(Classes(3))
    plain.process(*maps)
    changed.process(*renamed)
    for k, row in enumerate(plain.per_class()):
        assert changed.per_class()[order[k]]["IoU"] == pytest.approx(row["IoU"], nan_ok=True)
    for name, value in plain.evaluate().items():
        assert changed.evaluate()[name] == pytest.approx(value, nan_ok=True)
