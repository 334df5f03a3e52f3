"""Mask average precision by COCO's protocol."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from frozenseg.metrics.average_precision import (
    IOU_THRESHOLDS,
    SIZE_BINS,
    DetectionLog,
    coco_measures,
    match_detections,
)
from frozenseg.metrics.evaluator import Classes, Row, State, ratio
from frozenseg.metrics.overlap import count_pixels, pack_masks, shared_pixels
from frozenseg.structures import InstanceAnnotation, Instances, PanopticMap

_MAX_DETECTIONS = 100  # per image and class


class InstanceEvaluator:
    """Mask AP over IoU 0.50:0.05:0.95, as pycocotools computes it.

    Masks are matched image by image and not stored; their areas decide the size bins.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self._log = new_log(len(classes))

    def process(self, prediction: Instances, target: PanopticMap) -> None:
        """Adds one image whose annotated objects are the things of a panoptic map."""
        self.process_annotations(prediction, things_of(target))

    def process_annotations(
        self, prediction: Instances, annotations: Sequence[InstanceAnnotation]
    ) -> None:
        """Adds one image whose annotated objects may overlap.

        Raises:
            ValueError: a stuff class is predicted or annotated, or masks differ in size.
        """
        check_things(prediction, annotations, self.classes.is_thing)
        match_image(self._log, prediction, annotations, max_per_class=_MAX_DETECTIONS)

    def evaluate(self) -> dict[str, float]:
        """Returns ``instance/AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` and ``AR``."""
        return self.classes.averages("instance", coco_measures(self._log))

    def per_class(self) -> list[Row]:
        rows = self.classes.rows(coco_measures(self._log))
        return [row for row, is_thing in zip(rows, self.classes.is_thing, strict=True) if is_thing]

    def state_dict(self) -> State:
        return self._log.state_dict()

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        self._log.merge(other)


def things_of(panoptic: PanopticMap) -> list[InstanceAnnotation]:
    """Returns the things of a panoptic map as annotated objects."""
    return [
        InstanceAnnotation(segment.class_id, panoptic.ids == segment.id, segment.is_crowd)
        for segment in panoptic.segments
        if segment.is_thing
    ]


def check_things(
    prediction: Instances, annotations: Sequence[InstanceAnnotation], is_thing: np.ndarray
) -> None:
    """Raises a ValueError if an instance of a stuff class is predicted or annotated."""
    for class_id in [*prediction.class_ids.tolist(), *(each.class_id for each in annotations)]:
        if not (0 <= class_id < len(is_thing) and is_thing[class_id]):
            raise ValueError(f"class id {class_id} is not a thing of this vocabulary: leave it out")


def new_log(num_classes: int) -> DetectionLog:
    return DetectionLog(num_classes, num_bins=len(SIZE_BINS), num_thresholds=len(IOU_THRESHOLDS))


def match_image(
    log: DetectionLog,
    prediction: Instances,
    annotations: Sequence[InstanceAnnotation],
    *,
    max_per_class: int | None,
    exempt_class_ids: Collection[int] = (),
) -> None:
    """Matches one image's detections class by class and adds the outcomes to a log.

    Args:
        log: is added to.
        prediction: detections in any order.
        annotations: annotated objects.
        max_per_class: the number of best detections that count per class; None: all.
        exempt_class_ids: classes whose annotation in this image is incomplete.

    Raises:
        ValueError: masks differ in size.
    """
    _check_sizes(prediction, annotations)
    detected, annotated = _detected(prediction), _annotated(annotations, prediction.masks.shape[1:])
    matched = []
    for class_id in np.union1d(detected.class_ids, annotated.class_ids).tolist():
        found = np.flatnonzero(detected.class_ids == class_id)[:max_per_class]
        wanted = np.flatnonzero(annotated.class_ids == class_id)
        is_crowd = annotated.is_crowd[wanted]
        pixels = detected.pixels[found][:, None]
        shared = shared_pixels(detected.masks[found], annotated.masks[wanted])
        union = np.where(is_crowd, pixels, pixels + annotated.pixels[wanted] - shared)
        outcomes, num_annotated = match_detections(
            np.nan_to_num(ratio(shared, union)),
            detected_areas=detected.areas[found],
            annotated_areas=annotated.areas[wanted],
            is_crowd=is_crowd,
            is_exempt=class_id in exempt_class_ids,
        )
        log.num_annotated[class_id] += num_annotated
        matched.append((np.full(len(found), class_id), detected.scores[found], outcomes))
    if matched:
        log.add(*(np.concatenate(column) for column in zip(*matched, strict=True)))


class _Objects(NamedTuple):
    """Detected or annotated objects of an image as arrays."""

    class_ids: np.ndarray  # (N,)
    scores: np.ndarray  # (N,), descending
    is_crowd: np.ndarray  # (N,)
    masks: np.ndarray  # (N, words), packed
    pixels: np.ndarray  # (N,)
    areas: np.ndarray  # (N,) for the size bins


def _detected(prediction: Instances) -> _Objects:
    scores = prediction.scores.double().numpy(force=True)
    order = np.argsort(-scores, kind="stable")
    masks = pack_masks(prediction.masks)[order]
    pixels = count_pixels(masks)
    class_ids = prediction.class_ids.numpy(force=True)[order]
    return _Objects(
        class_ids, scores[order], np.zeros(len(order), dtype=bool), masks, pixels, pixels
    )


def _annotated(annotations: Sequence[InstanceAnnotation], size: Sequence[int]) -> _Objects:
    empty = torch.zeros((0, *size), dtype=torch.bool)
    masks = pack_masks(torch.stack([each.mask for each in annotations]) if annotations else empty)
    pixels = count_pixels(masks)
    areas = [float("nan") if each.area is None else each.area for each in annotations]
    return _Objects(
        class_ids=np.array([each.class_id for each in annotations], dtype=np.int64),
        scores=np.ones(len(annotations)),
        is_crowd=np.array([each.is_crowd for each in annotations], dtype=bool),
        masks=masks,
        pixels=pixels,
        areas=np.where(np.isnan(areas), pixels, areas),
    )


def _check_sizes(prediction: Instances, annotations: Sequence[InstanceAnnotation]) -> None:
    sizes = {tuple(annotation.mask.shape) for annotation in annotations}
    sizes.add(tuple(prediction.masks.shape[1:]))
    if len(sizes) > 1:
        raise ValueError(
            f"masks of one image have sizes {sorted(sizes)}: predict at the annotation's"
        )
