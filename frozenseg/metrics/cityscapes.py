"""The scores of the official cityscapesScripts: instance AP, IoU and its variants.

Class ids are the train ids 0..18. Class names do not matter, so any vocabulary can be evaluated.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from frozenseg.metrics.average_precision import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, DetectionLog
from frozenseg.metrics.evaluator import Classes, Row, State, add_counts, percent_mean, ratio
from frozenseg.metrics.instance import check_things
from frozenseg.metrics.overlap import equal_runs, pair_areas
from frozenseg.metrics.semantic import SemanticEvaluator, semantic_quality
from frozenseg.structures import Instances, PanopticMap

NUM_CLASSES = 19
_IS_THING = np.arange(NUM_CLASSES) >= 11
_THING_OF_LABEL = {
    24: 11,
    25: 12,
    26: 13,
    27: 14,
    28: 15,
    31: 16,
    32: 17,
    33: 18,
}  # label: train id
_VOID_LABELS = (*range(7), 9, 10, 14, 15, 16, 18, 29, 30)  # ignored in evaluation
_OVERLAPS = np.arange(0.5, 1.0, 0.05)
_MIN_REGION = 100  # pixels; smaller objects are ignored

_CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
_CATEGORY = np.repeat(np.arange(7), (2, 3, 3, 2, 1, 2, 6))  # of each train id
_MEAN_SIZE = {  # mean pixels per object in the training set
    11: 3462.4756337644,
    12: 3930.4788056518,
    13: 12794.0202738185,
    14: 27855.1264367816,
    15: 35732.1511111111,
    16: 67583.7075812274,
    17: 6298.7200839748,
    18: 4672.3249222261,
}


class _Regions(NamedTuple):
    """The regions of equal ids in an annotation, R of them."""

    of_pixel: np.ndarray  # (H * W,) region of each pixel
    pixels: np.ndarray  # (R,)
    class_ids: np.ndarray  # (R,), -1 for what is no thing
    is_group: np.ndarray  # (R,): several objects annotated as one
    is_void: np.ndarray  # (R,): ignored


class CityscapesInstanceEvaluator:
    """AP and AP50 of the eight thing classes.

    Differences from COCO: a match must exceed the IoU threshold, the number of predictions is
    unlimited, predictions on groups and void are ignored, and the curve is integrated stepwise.
    """

    def __init__(self, classes: Classes | None = None) -> None:
        self.classes = classes or Classes(NUM_CLASSES)
        self._log = DetectionLog(NUM_CLASSES, num_bins=1, num_thresholds=len(_OVERLAPS))

    def process(self, prediction: Instances, target: PanopticMap) -> None:
        """Adds one image by its panoptic annotation, whose crowd segments are groups.

        Caravans and trailers are void there, but only their groups are void in the official files:
        use ``process_instance_ids`` where numbers must agree to the last digit.
        """
        things = {segment.id: segment for segment in target.segments if segment.is_thing}
        ids, of_pixel, pixels = equal_runs(target.ids)
        shown = [things.get(value) for value in ids.tolist()]
        regions = _Regions(
            of_pixel,
            pixels,
            class_ids=np.array([each.class_id if each else -1 for each in shown], dtype=np.int64),
            is_group=np.array([bool(each and each.is_crowd) for each in shown]),
            is_void=ids == 0,
        )
        self._match(prediction, regions)

    def process_instance_ids(self, prediction: Instances, instance_ids: Tensor) -> None:
        """Adds one image by the (H, W) values of its ``gtFine_instanceIds.png``."""
        values, of_pixel, pixels = equal_runs(instance_ids)
        labels = np.where(values < 1000, values, values // 1000)
        regions = _Regions(
            of_pixel,
            pixels,
            class_ids=np.array([_THING_OF_LABEL.get(label, -1) for label in labels.tolist()]),
            is_group=values < 1000,
            is_void=np.isin(values, _VOID_LABELS),
        )
        self._match(prediction, regions)

    def evaluate(self) -> dict[str, float]:
        """Returns ``cityscapes/AP`` and ``AP50``, in percent."""
        return self.classes.averages("cityscapes", self._quality())

    def per_class(self) -> list[Row]:
        rows = self.classes.rows(self._quality())
        return [row for row, is_thing in zip(rows, _IS_THING, strict=True) if is_thing]

    def state_dict(self) -> State:
        return self._log.state_dict()

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        self._log.merge(other)

    def _quality(self) -> dict[str, np.ndarray]:
        table = np.stack(
            [
                step_average_precision(scores, outcomes[:, 0], int(num_annotated))
                for (scores, outcomes), num_annotated in zip(
                    self._log.by_class(), self._log.num_annotated[:, 0], strict=True
                )
            ]
        )
        return {"AP": table.mean(axis=1), "AP50": table[:, 0]}

    def _match(self, prediction: Instances, regions: _Regions) -> None:
        check_things(prediction, (), _IS_THING)
        order = prediction.scores.argsort(descending=True, stable=True)
        class_ids, scores = (field[order].numpy(force=True) for field in prediction[:2])
        masks = prediction.masks.flatten(1).numpy(force=True)
        num_regions = len(regions.pixels)
        shared = np.zeros((len(order), num_regions), dtype=np.int64)
        for row, index in enumerate(order.tolist()):
            inside = regions.of_pixel[np.flatnonzero(masks[index])]
            shared[row] = np.bincount(inside, minlength=num_regions)
        pixels, on_void = shared.sum(axis=1), shared[:, regions.is_void].sum(axis=1)
        predicted_class = np.where(pixels > 0, class_ids, -1)
        for class_id in np.flatnonzero(_IS_THING):
            own = np.flatnonzero(predicted_class == class_id)
            there = np.flatnonzero(regions.class_ids == class_id)
            outcomes, num_annotated = match_regions(
                shared[np.ix_(own, there)],
                pixels=pixels[own],
                on_void=on_void[own],
                region_pixels=regions.pixels[there],
                is_group=regions.is_group[there],
            )
            self._log.num_annotated[class_id] += num_annotated
            self._log.add(
                np.full(len(own), class_id),
                scores.astype(np.float64)[own],
                outcomes[:, None],
            )


class CityscapesSemanticEvaluator:
    """IoU of classes and of the seven categories, and iIoU, in which all objects weigh the same.

    ``cityscapes/IoU`` averages over classes that were annotated or predicted.
    """

    def __init__(self, classes: Classes | None = None) -> None:
        self.classes = classes or Classes(NUM_CLASSES)
        self._pixels = SemanticEvaluator(Classes(NUM_CLASSES), ignore_label=255)
        self._weights = {name: np.zeros(NUM_CLASSES) for name in ("hits", "category_hits", "total")}

    def process(self, prediction: Tensor, target: Tensor, objects: PanopticMap) -> None:
        """Adds one image.

        Args:
            prediction, target: (H, W) train ids.
            objects: the panoptic annotation.
        """
        self._pixels.process(prediction, target)
        add_counts(self._weights, count_objects(prediction, objects))

    def evaluate(self) -> dict[str, float]:
        """Returns ``cityscapes/IoU``, ``iIoU``, ``category_IoU``, ``category_iIoU``, in percent."""
        quality = self._quality()
        categories = self._category_quality()
        return self.classes.averages("cityscapes", quality) | {
            f"cityscapes/{name}": percent_mean(values) for name, values in categories.items()
        }

    def per_class(self) -> list[Row]:
        return self.classes.rows(self._quality())

    def state_dict(self) -> State:
        return self._pixels.state_dict() | {
            name: array.copy() for name, array in self._weights.items()
        }

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        self._pixels.merge({"confusion": other["confusion"]})
        add_counts(self._weights, {name: other[name] for name in self._weights})

    def _quality(self) -> dict[str, np.ndarray]:
        confusion = self._confusion
        false_positives = confusion.sum(axis=0) - confusion.diagonal()
        weights = self._weights
        by_object = ratio(weights["hits"], weights["total"] + false_positives)
        return {
            "IoU": semantic_quality(confusion)["IoU"],
            "iIoU": np.where(_IS_THING, by_object, np.nan),
        }

    def _category_quality(self) -> dict[str, np.ndarray]:
        """Returns (7,) fractions; only the categories human and vehicle have objects."""
        members = np.eye(len(_CATEGORIES), dtype=np.int64)[_CATEGORY]  # (K, 7)
        confusion = members.T @ self._confusion @ members
        false_positives = confusion.sum(axis=0) - confusion.diagonal()
        hits, total = (self._weights[name] @ members for name in ("category_hits", "total"))
        countable = _IS_THING @ members > 0
        return {
            "category_IoU": semantic_quality(confusion)["IoU"],
            "category_iIoU": np.where(countable, ratio(hits, total + false_positives), np.nan),
        }

    @property
    def _confusion(self) -> np.ndarray:
        return self._pixels.state_dict()["confusion"]


def match_regions(
    shared: np.ndarray,
    *,
    pixels: np.ndarray,
    on_void: np.ndarray,
    region_pixels: np.ndarray,
    is_group: np.ndarray,
) -> tuple[np.ndarray, int]:
    """Classifies the predictions of one class in one image, by IoU threshold.

    Of the predictions whose IoU with an object exceeds the threshold, the first is a true positive
    and the others are false positives. Groups and objects under 100 pixels are optional: a
    prediction that overlaps one of them in this sense is ignored. An unmatched prediction is also
    ignored if the share of it on void, groups and small objects (a small group counts twice)
    exceeds the threshold.

    Args:
        shared: (D, G) pixels that D predictions, best first, share with G annotated regions.
        pixels: (D,) size of each prediction, at least 1.
        on_void: (D,) pixels of each prediction on void.
        region_pixels: (G,) size of each region.
        is_group: (G,) bool.

    Returns:
        (D, thresholds) int8 outcomes; the number of annotated objects.
    """
    is_small = region_pixels < _MIN_REGION
    is_required = ~is_group & ~is_small
    union = pixels[:, None] + region_pixels - shared
    overlaps = shared / union > _OVERLAPS[:, None, None]  # (thresholds, D, G)
    absorbed = on_void + shared @ is_group.astype(np.int64) + shared @ is_small.astype(np.int64)
    is_ignored = overlaps.any(axis=2) | (absorbed / pixels > _OVERLAPS[:, None])
    finds = overlaps & is_required
    is_first = finds & (finds.cumsum(axis=1) == 1)
    outcomes = np.where(finds.any(axis=2) | ~is_ignored, FALSE_POSITIVE, IGNORED)
    return np.where(is_first.any(axis=2), TRUE_POSITIVE, outcomes).T.astype(np.int8), int(
        is_required.sum()
    )


def step_average_precision(
    scores: np.ndarray, outcomes: np.ndarray, num_annotated: int
) -> np.ndarray:
    """Returns the area under the precision-recall curve of one class, stepwise over its scores.

    Args:
        scores: (D,) of all images, descending.
        outcomes: (D, thresholds).
        num_annotated: the number of annotated objects.

    Returns:
        (thresholds,) fractions; nan without an annotated object.
    """
    if num_annotated == 0:
        return np.full(outcomes.shape[1], np.nan)
    return np.array([_step_area(scores, column, num_annotated) for column in outcomes.T])


def count_objects(prediction: Tensor, objects: PanopticMap) -> State:
    """Counts object pixels with the right class, with the right category, and all, (K,) each.

    The pixels of each object are weighted so that it counts like one of the mean size of its class.
    """
    counts = {name: np.zeros(NUM_CLASSES) for name in ("hits", "category_hits", "total")}
    ids, predicted, areas = pair_areas(objects.ids, prediction)
    for segment in objects.segments:
        own = ids == segment.id
        if segment.is_thing and not segment.is_crowd and own.any():
            weights = areas[own] * (_MEAN_SIZE[segment.class_id] / areas[own].sum())
            in_class = predicted[own] == segment.class_id
            in_category = _CATEGORY[predicted[own]] == _CATEGORY[segment.class_id]
            counts["hits"][segment.class_id] += weights[in_class].sum()
            counts["category_hits"][segment.class_id] += weights[in_category].sum()
            counts["total"][segment.class_id] += weights.sum()
    return counts


def _step_area(scores: np.ndarray, outcomes: np.ndarray, num_annotated: int) -> float:
    counted = outcomes != IGNORED
    distinct, starts = np.unique(-scores[counted], return_index=True)  # descending scores
    ends = np.append(starts[1:], counted.sum())
    hits = (outcomes[counted] == TRUE_POSITIVE).cumsum()[ends - 1] if len(distinct) else np.zeros(0)
    precision = np.append(1.0, hits / np.maximum(ends, 1))
    recall = np.append(0.0, hits / num_annotated)
    padded = np.concatenate([[0.0], recall, recall[-1:]])
    return float(precision @ (padded[2:] - padded[:-2])) / 2
