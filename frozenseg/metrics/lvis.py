"""Mask average precision on LVIS (sec. 3), whose images are annotated with some classes only."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from frozenseg.metrics.average_precision import coco_measures
from frozenseg.metrics.evaluator import Classes, Row, State, percent_mean
from frozenseg.metrics.instance import InstanceAnnotation, check_things, match_image, new_log
from frozenseg.structures import Instances

_MAX_DETECTIONS = 300  # per image
_FREQUENCIES = ("r", "c", "f")  # rare, common, frequent: in 1-10, 11-100, more training images


class LvisEvaluator:
    """AP of all and of rare, common and frequent classes, as the ``lvis`` package computes it.

    Masks are matched image by image and not stored.

    Args:
        classes: the table of classes.
        frequency: (K,) "r", "c" or "f" of each class.
    """

    def __init__(self, classes: Classes, *, frequency: Sequence[str]) -> None:
        unknown = sorted(set(frequency) - set(_FREQUENCIES))
        if unknown:
            raise ValueError(
                f"class frequency is {unknown[0]!r}, expected one of {', '.join(_FREQUENCIES)}"
            )
        self.classes = classes
        self.frequency = np.asarray(frequency)
        self._log = new_log(len(classes))

    def process(
        self,
        prediction: Instances,
        annotations: Sequence[InstanceAnnotation],
        *,
        negative_class_ids: Collection[int],
        not_exhaustive_class_ids: Collection[int],
    ) -> None:
        """Adds one image.

        Args:
            prediction: detections; the best 300 count if the image annotates their class or lists
                it as absent.
            annotations: annotated objects.
            negative_class_ids: classes known to be absent.
            not_exhaustive_class_ids: classes with objects that may not be annotated; their
                unmatched detections are ignored.
        """
        check_things(prediction, annotations, np.ones(len(self.classes), dtype=bool))
        annotations = [each for each in annotations if _has_area(each)]
        listed = {each.class_id for each in annotations} | set(negative_class_ids)
        match_image(
            self._log,
            _countable(prediction, listed),
            annotations,
            max_per_class=None,
            exempt_class_ids=not_exhaustive_class_ids,
        )

    def evaluate(self) -> dict[str, float]:
        """Returns COCO measures as ``lvis/AP``, ... and ``APr``, ``APc``, ``APf`` by frequency."""
        measures = coco_measures(self._log)
        by_frequency = {
            f"lvis/AP{each}": percent_mean(measures["AP"][self.frequency == each])
            for each in _FREQUENCIES
        }
        return self.classes.averages("lvis", measures) | by_frequency

    def per_class(self) -> list[Row]:
        rows = self.classes.rows(coco_measures(self._log))
        return [
            row | {"frequency": str(each)} for row, each in zip(rows, self.frequency, strict=True)
        ]

    def state_dict(self) -> State:
        return self._log.state_dict()

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        self._log.merge(other)


def _countable(prediction: Instances, listed: Collection[int]) -> Instances:
    best = prediction.scores.argsort(descending=True, stable=True)[:_MAX_DETECTIONS]
    best = [i for i in best.tolist() if int(prediction.class_ids[i]) in listed]
    kept = Instances(*(field[best] for field in prediction))
    visible = kept.masks.flatten(1).any(dim=1)  # the lvis package drops empty masks
    return Instances(*(field[visible] for field in kept))


def _has_area(annotation: InstanceAnnotation) -> bool:
    return bool(annotation.mask.any()) if annotation.area is None else annotation.area > 0
