"""Average precision by the rules of COCO and LVIS: match per image, then one curve per class."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from frozenseg.metrics.evaluator import State

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZE_BINS = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))  # all, small, medium, large; px
TRUE_POSITIVE, FALSE_POSITIVE, IGNORED = 1, 0, -1  # outcomes of a detection

_RECALLS = np.linspace(0.0, 1.0, 101)


def match_detections(
    iou: np.ndarray,
    *,
    detected_areas: np.ndarray,
    annotated_areas: np.ndarray,
    is_crowd: np.ndarray,
    is_exempt: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Classifies the detections of one class in one image, by size bin and IoU threshold.

    In order of score, each detection takes the unmatched object with the largest IoU. Crowd regions
    and objects outside the size bin are optional: they are taken only if no other object fits, and
    the detection is then ignored. A detection without a match is a false positive, or ignored if
    its own size is outside the bin. Crowd regions can be matched repeatedly.

    Args:
        iou: (D, G) of D detections, best first, with G annotated objects.
        detected_areas: (D,) pixels.
        annotated_areas: (G,) pixels.
        is_crowd: (G,) bool.
        is_exempt: the annotation of the class is incomplete in this image, so no detection is a
            false positive (LVIS).

    Returns:
        (D, bins, thresholds) int8 outcomes; (bins,) number of objects that count.
    """
    is_optional = _outside_bins(annotated_areas) | is_crowd  # (bins, G)
    unmatched = np.where(_outside_bins(detected_areas) | is_exempt, IGNORED, FALSE_POSITIVE)
    outcomes = np.repeat(unmatched.T[:, :, None], len(IOU_THRESHOLDS), axis=2).astype(np.int8)
    free = np.ones((*outcomes.shape[1:], len(annotated_areas)), dtype=bool)
    for detection in range(len(iou) if len(annotated_areas) else 0):
        fits = free & (iou[detection] >= IOU_THRESHOLDS[:, None])  # (bins, thresholds, G)
        wanted = fits & ~is_optional[:, None]
        fits = np.where(wanted.any(axis=-1, keepdims=True), wanted, fits)
        bins, thresholds = np.nonzero(fits.any(axis=-1))
        overlaps = np.where(fits[bins, thresholds], iou[detection], -1.0)
        best = overlaps.shape[1] - 1 - overlaps[:, ::-1].argmax(axis=1)  # of equals, the last
        outcomes[detection, bins, thresholds] = np.where(
            is_optional[bins, best], IGNORED, TRUE_POSITIVE
        )
        free[bins, thresholds, best] = is_crowd[best]
    return outcomes, (~is_optional).sum(axis=1)


class DetectionLog:
    """Outcomes of the detections of many images, and the number of annotated objects."""

    def __init__(self, num_classes: int, *, num_bins: int, num_thresholds: int) -> None:
        self.num_annotated = np.zeros((num_classes, num_bins), dtype=np.int64)
        self._images = {
            "class_ids": [np.zeros(0, dtype=np.int64)],
            "scores": [np.zeros(0)],
            "outcomes": [np.zeros((0, num_bins, num_thresholds), dtype=np.int8)],
        }

    def add(self, class_ids: np.ndarray, scores: np.ndarray, outcomes: np.ndarray) -> None:
        """Adds the detections of one image.

        Args:
            class_ids: (D,), best first within each class.
            scores: (D,).
            outcomes: (D, bins, thresholds).
        """
        image = {"class_ids": class_ids, "scores": scores, "outcomes": outcomes}
        for name, column in self._images.items():
            column.append(image[name])

    def by_class(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the (D,) scores and (D, bins, thresholds) outcomes of each class, best first."""
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
            ValueError: the log is of another evaluator or vocabulary.
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
    """Returns AP as COCO names it and average recall AR: (K,) fractions, nan without an object."""
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
    """Returns precision, interpolated and averaged over 101 recalls, and recall of one class.

    Args:
        outcomes: (D, bins, thresholds) of all images, best first.
        num_annotated: (bins,) annotated objects.

    Returns:
        Two (bins, thresholds) tables of fractions; nan without an annotated object.
    """
    hits = (outcomes == TRUE_POSITIVE).cumsum(axis=0)
    false_positives = (outcomes == FALSE_POSITIVE).cumsum(axis=0)
    precision = hits / (hits + false_positives + np.spacing(1))
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
    """Returns (bins, N), True if an area lies outside the size bin; both ends are inside."""
    low, high = np.array(SIZE_BINS).T[:, :, None]
    return (areas < low) | (areas > high)
