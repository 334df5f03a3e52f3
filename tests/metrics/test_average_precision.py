import numpy as np
import pytest

from frozenseg.metrics.average_precision import (
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
    average_precision,
    match_detections,
)

ALL, SMALL, MEDIUM, LARGE = range(4)


def outcomes_of(
    iou: list[list[float]], *, annotated_area: float = 400, detected_area: float = 400, **flags
):
    overlaps = np.array(iou).reshape(len(iou), -1)
    num_annotated = overlaps.shape[1]
    return match_detections(
        overlaps,
        detected_areas=np.full(len(iou), detected_area),
        annotated_areas=np.full(num_annotated, annotated_area),
        is_crowd=flags.pop("is_crowd", np.zeros(num_annotated, dtype=bool)),
        **flags,
    )


def at_50(outcomes: np.ndarray, size: int = ALL) -> list[int]:
    return outcomes[:, size, 0].tolist()


def test_an_object_is_found_once_by_the_best_score():
    outcomes, num_annotated = outcomes_of([[0.7], [0.9]])
    assert at_50(outcomes) == [TRUE_POSITIVE, FALSE_POSITIVE]
    assert outcomes[:, ALL, 8].tolist() == [
        FALSE_POSITIVE,
        TRUE_POSITIVE,
    ]  # at IoU 0.90 the first is no match
    assert num_annotated.tolist() == [1, 1, 0, 0]


def test_the_best_overlap_is_taken_and_of_equals_the_last():
    assert at_50(outcomes_of([[0.8, 0.6], [0.9, 0.4]])[0]) == [TRUE_POSITIVE, FALSE_POSITIVE]
    assert at_50(outcomes_of([[0.6, 0.6], [0.9, 0.0]])[0]) == [TRUE_POSITIVE, TRUE_POSITIVE]


def test_an_overlap_of_exactly_the_threshold_suffices():
    assert at_50(outcomes_of([[0.5]])[0]) == [TRUE_POSITIVE]


def test_a_crowd_takes_any_number_but_only_what_nothing_else_fits():
    crowd = {"is_crowd": np.array([True, False])}
    outcomes, num_annotated = outcomes_of([[0.9, 0.6], [0.9, 0.6], [0.9, 0.6]], **crowd)
    assert at_50(outcomes) == [TRUE_POSITIVE, IGNORED, IGNORED]
    assert num_annotated[ALL] == 1


def test_a_size_bin_includes_both_its_ends():
    _, num_annotated = outcomes_of([[0.9]], annotated_area=32**2)
    assert num_annotated.tolist() == [1, 1, 1, 0]


def test_a_stray_detection_counts_only_in_its_own_size_bin():
    outcomes, _ = outcomes_of([[0.1]], detected_area=5000)
    assert outcomes[0, :, 0].tolist() == [FALSE_POSITIVE, IGNORED, FALSE_POSITIVE, IGNORED]


def test_without_objects_detections_are_false_alarms_unless_exempt():
    assert at_50(outcomes_of([[], []])[0]) == [FALSE_POSITIVE, FALSE_POSITIVE]
    assert at_50(outcomes_of([[], []], is_exempt=True)[0]) == [IGNORED, IGNORED]


def curve(outcomes: list[int], num_annotated: int) -> tuple[float, float]:
    table = np.array(outcomes, dtype=np.int8).reshape(-1, 1, 1)
    precision, recall = average_precision(table, np.array([num_annotated]))
    return precision.item(), recall.item()


def test_precision_is_interpolated_at_101_recalls():
    # recall 1/2 at precision 1, recall 1 at precision 2/3: 51 recalls up to 0.50, 50 above
    precision, recall = curve([TRUE_POSITIVE, FALSE_POSITIVE, TRUE_POSITIVE], 2)
    assert precision == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert recall == 1


def test_ignored_detections_change_nothing():
    plain = curve([TRUE_POSITIVE, FALSE_POSITIVE, TRUE_POSITIVE], 3)
    assert (
        curve([IGNORED, TRUE_POSITIVE, IGNORED, FALSE_POSITIVE, TRUE_POSITIVE, IGNORED], 3) == plain
    )


def test_nothing_detected_is_zero_and_nothing_annotated_undefined():
    assert curve([], 2) == (0, 0)
    assert np.isnan(curve([FALSE_POSITIVE], 0)).all()
