"""Average precision by COCO's rules, which LVIS shares: match in an image, a curve per class."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from frozenseg.metrics.evaluator import State

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZE_BINS = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))  # all, small, medium, large; px
HIT, FALSE_ALARM, IGNORED = 1, 0, -1  # what a detection can turn out to be

_RECALLS = np.linspace(0.0, 1.0, 101)


def judge_detections(
    iou: np.ndarray,
    *,
    detected_areas: np.ndarray,
    annotated_areas: np.ndarray,
    is_crowd: np.ndarray,
    is_exempt: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """What the detections of one class in one image turn out to be, by size bin and IoU threshold.

    In order of score, each detection takes the free object that it overlaps best. Crowd regions and
    objects outside the size bin are set aside: taken only where nothing else fits, and then the
    detection is ignored. A detection that matches nothing is a false alarm, or ignored if its own
    size is outside the bin. Crowd regions stay free.

    Args:
        iou: (D, G) of D detections, best first, with G annotated objects.
        detected_areas: (D,) pixels.
        annotated_areas: (G,) pixels.
        is_crowd: (G,) bool.
        is_exempt: the annotation of the class is incomplete here: nothing is a false alarm (LVIS).

    Returns:
        (D, bins, thresholds) int8 outcomes; (bins,) the number of objects to be found.
    """
    set_aside = _outside_bins(annotated_areas) | is_crowd  # (bins, G)
    unmatched = np.where(_outside_bins(detected_areas) | is_exempt, IGNORED, FALSE_ALARM)
    outcomes = np.repeat(unmatched.T[:, :, None], len(IOU_THRESHOLDS), axis=2).astype(np.int8)
    free = np.ones((*outcomes.shape[1:], len(annotated_areas)), dtype=bool)
    for detection in range(len(iou) if len(annotated_areas) else 0):
        fits = free & (iou[detection] >= IOU_THRESHOLDS[:, None])  # (bins, thresholds, G)
        wanted = fits & ~set_aside[:, None]
        fits = np.where(wanted.any(axis=-1, keepdims=True), wanted, fits)
        bins, thresholds = np.nonzero(fits.any(axis=-1))
        overlaps = np.where(fits[bins, thresholds], iou[detection], -1.0)
        best = overlaps.shape[1] - 1 - overlaps[:, ::-1].argmax(axis=1)  # of equals, the last
        outcomes[detection, bins, thresholds] = np.where(set_aside[bins, best], IGNORED, HIT)
        free[bins, thresholds, best] = is_crowd[best]
    return outcomes, (~set_aside).sum(axis=1)


class DetectionLog:
    """What the detections of many images turned out to be, and how many objects there were."""

    def __init__(self, num_classes: int, *, num_bins: int, num_thresholds: int) -> None:
        self.num_annotated = np.zeros((num_classes, num_bins), dtype=np.int64)
        self._images = {
            "class_ids": [np.zeros(0, dtype=np.int64)],
            "scores": [np.zeros(0)],
            "outcomes": [np.zeros((0, num_bins, num_thresholds), dtype=np.int8)],
        }

    def add(self, class_ids: np.ndarray, scores: np.ndarray, outcomes: np.ndarray) -> None:
        """Takes (D,) detections of an image, best first within each class."""
        image = {"class_ids": class_ids, "scores": scores, "outcomes": outcomes}
        for name, column in self._images.items():
            column.append(image[name])

    def by_class(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of every class in turn its (D,) scores and (D, bins, thresholds) outcomes, best first."""
        state = self.state_dict()
        order = np.lexsort((-state["scores"], state["class_ids"]))
        class_ids, scores, outcomes = (
            state[name][order] for name in ("class_ids", "scores", "outcomes")
        )
        ends = np.searchsorted(class_ids, np.arange(len(self.num_annotated) + 1))
        for start, end in pairwise(ends):
            yield scores[start:end], outcomes[start:end]

    def state_dict(self) -> State:
        columns = {name: np.concatenate(column) for name, column in self._images.items()}
        return columns | {"num_annotated": self.num_annotated.copy()}

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        """Appends another log's ``state_dict``.

        Raises:
            ValueError: it is of another evaluator or vocabulary.
        """
        own, theirs = self.num_annotated.shape, other["num_annotated"].shape
        if own != theirs:
            raise ValueError(
                f"cannot merge detections of {theirs} classes and bins into {own}: "
                "both must come from the same evaluator and vocabulary"
            )
        self.num_annotated += other["num_annotated"]
        self.add(other["class_ids"], other["scores"], other["outcomes"])


def coco_measures(log: DetectionLog) -> dict[str, np.ndarray]:
    """AP by COCO's names and average recall AR: (K,) fractions, nan for a class without object."""
    curves = [
        average_precision(outcomes, num_annotated)
        for (_, outcomes), num_annotated in zip(log.by_class(), log.num_annotated, strict=True)
    ]
    precision, recall = (np.stack(tables) for tables in zip(*curves, strict=True))  # (K, bins, T)
    return {
        "AP": precision[:, 0].mean(axis=-1),
        "AP50": precision[:, 0, 0],
        "AP75": precision[:, 0, 5],
        "APs": precision[:, 1].mean(axis=-1),
        "APm": precision[:, 2].mean(axis=-1),
        "APl": precision[:, 3].mean(axis=-1),
        "AR": recall[:, 0].mean(axis=-1),
    }


def average_precision(
    outcomes: np.ndarray, num_annotated: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Precision, interpolated and averaged over 101 recalls, and the final recall of one class.

    Args:
        outcomes: (D, bins, thresholds) of all images, best first.
        num_annotated: (bins,) objects to be found.

    Returns:
        Two (bins, thresholds) tables of fractions; nan where there was nothing to be found.
    """
    hits = (outcomes == HIT).cumsum(axis=0)
    alarms = (outcomes == FALSE_ALARM).cumsum(axis=0)
    precision = hits / (hits + alarms + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    table, final = np.zeros(outcomes.shape[1:]), np.zeros(outcomes.shape[1:])
    for place in np.ndindex(table.shape):
        if len(outcomes) and num_annotated[place[0]]:
            recall = hits[:, *place] / num_annotated[place[0]]
            reached = np.searchsorted(recall, _RECALLS)
            table[place] = np.append(precision[:, *place], 0.0)[reached].mean()
            final[place] = recall[-1]
    table[num_annotated == 0] = final[num_annotated == 0] = np.nan
    return table, final


def _outside_bins(areas: np.ndarray) -> np.ndarray:
    """(bins, N) whether an area lies outside each size bin; both ends belong to it."""
    low, high = np.array(SIZE_BINS).T[:, :, None]
    return (areas < low) | (areas > high)
