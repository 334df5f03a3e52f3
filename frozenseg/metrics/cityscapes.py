"""The scores of Cityscapes' own scripts (cityscapesScripts): instance AP, IoU and its variants.

Classes are train ids 0..18; class names play no part, so that any vocabulary can be evaluated.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frozenseg.metrics.average_precision import FALSE_ALARM, HIT, IGNORED, DetectionLog
from frozenseg.metrics.evaluator import Classes, Row, State, add_counts, percent_mean, ratio
from frozenseg.metrics.instance import check_things
from frozenseg.metrics.overlap import count_pixels, pack_masks, pair_areas, shared_pixels
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
_VOID_LABELS = (*range(7), 9, 10, 14, 15, 16, 18, 29, 30)  # not evaluated
_OVERLAPS = np.arange(0.5, 1.0, 0.05)
_MIN_REGION = 100  # pixels of an object that must be found

_CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
_CATEGORY = np.repeat(np.arange(7), (2, 3, 3, 2, 1, 2, 6))  # of each train id
_MEAN_SIZE = {  # pixels of an object in the training set
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
    """The annotated things of an image, and where nothing is evaluated."""

    masks: Tensor  # (G, H, W) bool
    class_ids: np.ndarray  # (G,)
    is_group: np.ndarray  # (G,): several objects annotated as one
    void: Tensor  # (H, W) bool


class CityscapesInstanceEvaluator:
    """AP and AP50 of the eight thing classes.

    Differs from COCO's: a match must exceed the overlap, predictions may be as many as they like,
    groups and void absorb false alarms, and the curve is integrated step by step.
    """

    def __init__(
        self, *, seen: Sequence[bool] | None = None, names: Sequence[str] | None = None
    ) -> None:
        self.classes = Classes(NUM_CLASSES, seen=seen, names=names)
        self._log = DetectionLog(NUM_CLASSES, num_bins=1, num_thresholds=len(_OVERLAPS))

    def process(self, prediction: Instances, target: PanopticMap) -> None:
        """Takes one image by its panoptic annotation, whose crowd segments are groups.

        Caravans and trailers are void there, in the official files only their groups: use
        ``process_instance_ids`` where numbers must agree to the last digit.
        """
        things = [segment for segment in target.segments if segment.is_thing]
        self._judge(
            prediction,
            _Regions(
                masks=_masks_of(target.ids, [segment.id for segment in things]),
                class_ids=np.array([segment.class_id for segment in things], dtype=np.int64),
                is_group=np.array([segment.is_crowd for segment in things], dtype=bool),
                void=target.ids == 0,
            ),
        )

    def process_instance_ids(self, prediction: Instances, instance_ids: Tensor) -> None:
        """Takes one image by the (H, W) values of its ``gtFine_instanceIds.png``."""
        values = instance_ids.unique().tolist()
        labels = [value if value < 1000 else value // 1000 for value in values]
        things = [
            (value, _THING_OF_LABEL[label])
            for value, label in zip(values, labels, strict=True)
            if label in _THING_OF_LABEL
        ]
        self._judge(
            prediction,
            _Regions(
                masks=_masks_of(instance_ids, [value for value, _ in things]),
                class_ids=np.array([class_id for _, class_id in things], dtype=np.int64),
                is_group=np.array([value < 1000 for value, _ in things], dtype=bool),
                void=torch.isin(
                    instance_ids, torch.tensor(_VOID_LABELS, device=instance_ids.device)
                ),
            ),
        )

    def evaluate(self) -> dict[str, float]:
        """``cityscapes/AP`` and ``AP50``, in percent."""
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

    def _judge(self, prediction: Instances, regions: _Regions) -> None:
        check_things(prediction, (), _IS_THING)
        order = prediction.scores.argsort(descending=True, stable=True)
        class_ids, scores, masks = (field[order] for field in prediction[:3])
        packed, region_masks = pack_masks(masks), pack_masks(regions.masks)
        pixels, region_pixels = count_pixels(packed), count_pixels(region_masks)
        on_void = shared_pixels(packed, pack_masks(regions.void[None]))[:, 0]
        predicted_class = np.where(pixels > 0, class_ids.numpy(force=True), -1)
        for class_id in np.flatnonzero(_IS_THING):
            own = np.flatnonzero(predicted_class == class_id)
            there = np.flatnonzero(regions.class_ids == class_id)
            outcomes, num_annotated = judge_regions(
                shared_pixels(packed[own], region_masks[there]),
                pixels=pixels[own],
                on_void=on_void[own],
                region_pixels=region_pixels[there],
                is_group=regions.is_group[there],
            )
            self._log.num_annotated[class_id] += num_annotated
            self._log.add(
                np.full(len(own), class_id),
                scores.double().numpy(force=True)[own],
                outcomes[:, None],
            )


class CityscapesSemanticEvaluator:
    """IoU of classes and of the seven categories, and iIoU, where each object weighs the same.

    ``cityscapes/IoU`` averages over classes that were annotated or predicted.
    """

    def __init__(
        self, *, seen: Sequence[bool] | None = None, names: Sequence[str] | None = None
    ) -> None:
        self.classes = Classes(NUM_CLASSES, seen=seen, names=names)
        self._pixels = SemanticEvaluator(num_classes=NUM_CLASSES, ignore_label=255)
        self._weights = {name: np.zeros(NUM_CLASSES) for name in ("hits", "category_hits", "total")}

    def process(self, prediction: Tensor, target: Tensor, objects: PanopticMap) -> None:
        """Takes one image: (H, W) predicted and annotated train ids, the panoptic annotation."""
        self._pixels.process(prediction, target)
        add_counts(self._weights, count_objects(prediction, objects))

    def evaluate(self) -> dict[str, float]:
        """``cityscapes/IoU``, ``iIoU``, ``category_IoU``, ``category_iIoU``, in percent."""
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
        false_alarms = confusion.sum(axis=0) - confusion.diagonal()
        weights = self._weights
        by_object = ratio(weights["hits"], weights["total"] + false_alarms)
        return {
            "IoU": semantic_quality(confusion)["IoU"],
            "iIoU": np.where(_IS_THING, by_object, np.nan),
        }

    def _category_quality(self) -> dict[str, np.ndarray]:
        """(7,) fractions; only human and vehicle consist of objects."""
        members = np.eye(len(_CATEGORIES), dtype=np.int64)[_CATEGORY]  # (K, 7)
        confusion = members.T @ self._confusion @ members
        false_alarms = confusion.sum(axis=0) - confusion.diagonal()
        hits, total = (self._weights[name] @ members for name in ("category_hits", "total"))
        countable = _IS_THING @ members > 0
        return {
            "category_IoU": semantic_quality(confusion)["IoU"],
            "category_iIoU": np.where(countable, ratio(hits, total + false_alarms), np.nan),
        }

    @property
    def _confusion(self) -> np.ndarray:
        return self._pixels.state_dict()["confusion"]


def judge_regions(
    shared: np.ndarray,
    *,
    pixels: np.ndarray,
    on_void: np.ndarray,
    region_pixels: np.ndarray,
    is_group: np.ndarray,
) -> tuple[np.ndarray, int]:
    """What the predictions of one class in one image turn out to be, by overlap threshold.

    Of the predictions that overlap an object by more than the threshold, the first is a hit and the
    others are false alarms. Groups and objects under 100 pixels need not be found: a prediction
    that overlaps one so is ignored, and so is one that overlaps nothing so but lies, for a share
    above the threshold, on void, groups and small objects (a small group counts twice).

    Args:
        shared: (D, G) pixels that D predictions, best first, share with G annotated regions.
        pixels: (D,) of the predictions, none of them empty.
        on_void: (D,) of these on void.
        region_pixels: (G,) of the regions.
        is_group: (G,) bool.

    Returns:
        (D, thresholds) int8 outcomes; the number of objects to be found.
    """
    is_small = region_pixels < _MIN_REGION
    to_be_found = ~is_group & ~is_small
    union = pixels[:, None] + region_pixels - shared
    overlaps = shared / union > _OVERLAPS[:, None, None]  # (thresholds, D, G)
    absorbed = on_void + shared @ is_group.astype(np.int64) + shared @ is_small.astype(np.int64)
    is_ignored = overlaps.any(axis=2) | (absorbed / pixels > _OVERLAPS[:, None])
    finds = overlaps & to_be_found
    is_first = finds & (finds.cumsum(axis=1) == 1)
    outcomes = np.where(finds.any(axis=2) | ~is_ignored, FALSE_ALARM, IGNORED)
    return np.where(is_first.any(axis=2), HIT, outcomes).T.astype(np.int8), int(to_be_found.sum())


def step_average_precision(
    scores: np.ndarray, outcomes: np.ndarray, num_annotated: int
) -> np.ndarray:
    """Area under the precision-recall curve of one class, step by step over its distinct scores.

    Args:
        scores: (D,) of all images, descending.
        outcomes: (D, thresholds).
        num_annotated: objects to be found.

    Returns:
        (thresholds,) fractions; nan if there was nothing to be found.
    """
    if num_annotated == 0:
        return np.full(outcomes.shape[1], np.nan)
    return np.array([_step_area(scores, column, num_annotated) for column in outcomes.T])


def count_objects(prediction: Tensor, objects: PanopticMap) -> State:
    """Object pixels with the right class, with the right category, and all, (K,) each.

    Every object's pixels are weighted so that it counts as one of the mean size of its class.
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


def _masks_of(ids: Tensor, values: Sequence[int]) -> Tensor:
    return ids == torch.tensor(values, dtype=ids.dtype, device=ids.device)[:, None, None]


def _step_area(scores: np.ndarray, outcomes: np.ndarray, num_annotated: int) -> float:
    counted = outcomes != IGNORED
    distinct, starts = np.unique(-scores[counted], return_index=True)  # descending scores
    ends = np.append(starts[1:], counted.sum())
    hits = (outcomes[counted] == HIT).cumsum()[ends - 1] if len(distinct) else np.zeros(0)
    precision = np.append(1.0, hits / np.maximum(ends, 1))
    recall = np.append(0.0, hits / num_annotated)
    padded = np.concatenate([[0.0], recall, recall[-1:]])
    return float(precision @ (padded[2:] - padded[:-2])) / 2
