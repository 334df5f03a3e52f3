"""Panoptic quality (Kirillov et al., Panoptic Segmentation, sec. 4), as panopticapi counts it."""

from collections.abc import Mapping, Sequence

import numpy as np

from frozenseg.metrics.evaluator import Classes, Row, State, add_counts, ratio
from frozenseg.metrics.overlap import pair_areas
from frozenseg.structures import PanopticMap, Segment


class PanopticEvaluator:
    """PQ, SQ and RQ over images, for all classes and for things, stuff, seen and unseen ones."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self._counts = _zero_counts(len(classes))

    def process(self, prediction: PanopticMap, target: PanopticMap) -> None:
        """Adds one image; see ``count_matches``."""
        add_counts(self._counts, count_matches(prediction, target, len(self.classes)))

    def evaluate(self) -> dict[str, float]:
        """Returns ``panoptic/PQ``, ``SQ`` and ``RQ`` in percent, for all classes and each group."""
        return self.classes.averages("panoptic", panoptic_quality(self._counts), split_things=True)

    def per_class(self) -> list[Row]:
        counts = {name: array for name, array in self._counts.items() if name != "iou_sum"}
        return self.classes.rows(panoptic_quality(self._counts) | counts, split_things=True)

    def state_dict(self) -> State:
        return {name: array.copy() for name, array in self._counts.items()}

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        add_counts(self._counts, other)


def panoptic_quality(counts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns PQ = SQ x RQ per class, as fractions; nan for a class that never occurs.

    SQ is the mean IoU of the matches, RQ the F1 score of detecting segments.
    """
    matched = counts["true_positives"]
    attempts = matched + 0.5 * counts["false_positives"] + 0.5 * counts["false_negatives"]
    quality = ratio(counts["iou_sum"], attempts)
    found = ratio(matched, attempts)
    segmented = ratio(counts["iou_sum"], matched)
    # A class that was never matched has SQ 0, not undefined, in published averages.
    return {
        "PQ": quality,
        "SQ": np.where(attempts > 0, np.nan_to_num(segmented), np.nan),
        "RQ": found,
    }


def count_matches(prediction: PanopticMap, target: PanopticMap, num_classes: int) -> State:
    """Counts matches, misses and false positives of one image, per class.

    A predicted and an annotated segment of the same class match when their IoU exceeds one half.
    Predicted pixels on void are excluded from the union, and the annotation's area is its stated
    one, which may exceed its visible pixels. Crowd regions neither match nor count as missed. An
    unmatched prediction is ignored if more than half of it lies on void and on a crowd region of
    its class. Pixels with an annotated id that no segment lists belong to no segment, but are not
    void.

    Raises:
        ValueError: sizes differ, a segment is listed twice or without its area, a predicted id is
            not listed or has no pixel, a class id is out of range.
    """
    _check_segments(prediction, "predicted", num_classes)
    _check_segments(target, "annotated", num_classes)
    shared, on_void = _shared_areas(prediction, target)
    predicted_area = shared.sum(axis=0) + on_void
    shared = shared[: len(target.segments)]
    _check_areas(target.segments, shared.sum(axis=1), prediction.segments, predicted_area)

    target_class = _column(target.segments, "class_id")
    predicted_class = _column(prediction.segments, "class_id")
    is_crowd = _column(target.segments, "is_crowd").astype(bool)
    stated_area = _column(target.segments, "area")[:, None]

    comparable = (target_class[:, None] == predicted_class) & ~is_crowd[:, None] & (shared > 0)
    iou = np.where(comparable, shared / (predicted_area + stated_area - shared - on_void), 0.0)
    matches = iou > 0.5
    missed = ~matches.any(axis=1) & ~is_crowd
    ignorable = on_void + _on_own_crowd(shared, target_class, predicted_class, is_crowd)
    false_positive = ~matches.any(axis=0) & ~(ignorable > 0.5 * predicted_area)

    def per_class(class_ids: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(class_ids, weights=weights, minlength=num_classes)

    matched_class = target_class[np.nonzero(matches)[0]]
    return {
        "iou_sum": per_class(matched_class, iou[matches]),
        "true_positives": per_class(matched_class),
        "false_positives": per_class(predicted_class[false_positive]),
        "false_negatives": per_class(target_class[missed]),
    }


def _zero_counts(num_classes: int) -> State:
    names = ("true_positives", "false_positives", "false_negatives")
    return {"iou_sum": np.zeros(num_classes)} | {
        name: np.zeros(num_classes, dtype=np.int64) for name in names
    }


def _shared_areas(prediction: PanopticMap, target: PanopticMap) -> tuple[np.ndarray, np.ndarray]:
    """Counts the pixels shared by each pair of segments, and those of each prediction on void.

    Returns:
        (T + 1, P) shared pixels, the last row for annotated ids without a segment; (P,) on void.
    """
    sizes = tuple(prediction.ids.shape), tuple(target.ids.shape)
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"prediction is {sizes[0]} but the annotation {sizes[1]}: "
            "predict at the annotation's size"
        )
    target_ids, predicted_ids, areas = pair_areas(target.ids, prediction.ids)
    num_targets, num_predicted = len(target.segments), len(prediction.segments)
    rows = np.where(target_ids == 0, num_targets + 1, _positions(target_ids, target.segments))
    columns = np.where(
        predicted_ids == 0, num_predicted + 1, _positions(predicted_ids, prediction.segments)
    )
    if (columns == num_predicted).any():
        unlisted = predicted_ids[columns == num_predicted][0]
        raise ValueError(f"predicted id {unlisted} has pixels but no segment: list it")
    table = np.zeros((num_targets + 2, num_predicted + 2), dtype=np.int64)
    np.add.at(table, (rows, columns), areas)
    return table[:-1, :num_predicted], table[-1, :num_predicted]


def _positions(ids: np.ndarray, segments: Sequence[Segment]) -> np.ndarray:
    """Returns the index of each id in the list of segments; the list's length if absent."""
    listed = _column(segments, "id")
    if len(listed) == 0:
        return np.zeros(len(ids), dtype=np.int64)
    order = np.argsort(listed)
    nearest = order[np.searchsorted(listed, ids, sorter=order).clip(max=len(listed) - 1)]
    return np.where(listed[nearest] == ids, nearest, len(listed))


def _on_own_crowd(
    shared: np.ndarray, target_class: np.ndarray, predicted_class: np.ndarray, is_crowd: np.ndarray
) -> np.ndarray:
    """Returns the (P,) pixels of each prediction on the crowd region of its class."""
    pixels = np.zeros(len(predicted_class), dtype=np.int64)
    for row in np.flatnonzero(is_crowd):  # of several, panopticapi knows only the last one listed
        pixels = np.where(predicted_class == target_class[row], shared[row], pixels)
    return pixels


def _column(segments: Sequence[Segment], name: str) -> np.ndarray:
    return np.array([getattr(segment, name) for segment in segments], dtype=np.int64)


def _check_segments(panoptic: PanopticMap, kind: str, num_classes: int) -> None:
    ids = [segment.id for segment in panoptic.segments]
    if len(set(ids)) != len(ids) or 0 in ids:
        raise ValueError(
            f"{kind} segment ids {sorted(ids)} must be distinct and not 0, which is void"
        )
    wrong = [
        segment.class_id for segment in panoptic.segments if not 0 <= segment.class_id < num_classes
    ]
    if wrong:
        raise ValueError(f"{kind} class id {wrong[0]} is not among the {num_classes} classes")


def _check_areas(
    targets: Sequence[Segment],
    target_pixels: np.ndarray,
    predictions: Sequence[Segment],
    predicted_pixels: np.ndarray,
) -> None:
    for segment, pixels in zip(targets, target_pixels, strict=True):
        if pixels > 0 and segment.area <= 0:
            raise ValueError(f"annotated segment {segment.id} states no area: set it to its pixels")
    for segment, pixels in zip(predictions, predicted_pixels, strict=True):
        if pixels == 0:
            raise ValueError(f"predicted segment {segment.id} has no pixel: leave it out")
