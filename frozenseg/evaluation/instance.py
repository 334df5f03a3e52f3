"""Mask average precision by COCO's protocol, computed by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from frozenseg.evaluation.evaluator import Classes, Row, State
from frozenseg.evaluation.objects import InstanceAnnotation, ObjectStore, things_of
from frozenseg.structures import Instances, PanopticMap

# Places on the axes of COCO's tables: thresholds 0.50:0.05:0.95, size bins, detections 1/10/100.
_IOU_50, _IOU_75 = 0, 5
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_DETECTIONS_100 = 2


class InstanceEvaluator:
    """Mask AP over IoU 0.50:0.05:0.95 of a stream of images; mask areas decide the size bins.

    At most 100 detections per image and class count.
    """

    def __init__(
        self,
        *,
        is_thing: Sequence[bool],
        seen: Sequence[bool] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.classes = Classes(len(is_thing), seen=seen, names=names)
        self.is_thing = np.asarray(is_thing, dtype=bool)
        self._store = ObjectStore()

    def process(self, prediction: Instances, target: PanopticMap) -> None:
        """Takes one image whose annotated objects are the things of a panoptic map."""
        self.process_annotations(prediction, things_of(target))

    def process_annotations(
        self, prediction: Instances, annotations: Sequence[InstanceAnnotation]
    ) -> None:
        """Takes one image whose annotated objects may overlap.

        Raises:
            ValueError: a stuff class is predicted or annotated, or masks differ in size.
        """
        class_ids = [*prediction.class_ids.tolist(), *(each.class_id for each in annotations)]
        wrong = [k for k in class_ids if not (0 <= k < len(self.classes) and self.is_thing[k])]
        if wrong:
            raise ValueError(
                f"class id {wrong[0]} is no thing, so it has no instances: leave it out"
            )
        self._store.add_image(prediction, annotations)

    def evaluate(self) -> dict[str, float]:
        """``instance/AP``, ``AP50``, ``AP75``; ``APs``, ``APm``, ``APl`` by size; recall ``AR``."""
        return self.classes.averages("instance", self._quality())

    def per_class(self) -> list[Row]:
        rows = self.classes.rows(self._quality())
        return [row for row, is_thing in zip(rows, self.is_thing, strict=True) if is_thing]

    def state_dict(self) -> State:
        return self._store.state_dict()

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        self._store.merge(other)

    def _quality(self) -> dict[str, np.ndarray]:
        """(K,) fractions by name; nan for stuff and for classes without an annotated object."""
        things = np.flatnonzero(self.is_thing)
        measures = instance_quality(self._store, things)
        spread = {name: np.full(len(self.classes), np.nan) for name in measures}
        for name, values in measures.items():
            spread[name][things] = values
        return spread


def instance_quality(store: ObjectStore, class_ids: np.ndarray) -> dict[str, np.ndarray]:
    """COCO's measures as fractions, one value per class of ``class_ids``; nan where undefined."""
    precision, recall = _run_coco(store, class_ids)

    def average(table: np.ndarray) -> np.ndarray:
        """Mean over all axes but the last, the class; an undefined class is -1 throughout."""
        means = table.reshape(-1, table.shape[-1]).mean(axis=0)
        return np.where(means < 0, np.nan, means)

    def at(size: int) -> np.ndarray:
        return precision[:, :, :, size, _DETECTIONS_100]

    return {
        "AP": average(at(_ALL)),
        "AP50": average(at(_ALL)[_IOU_50]),
        "AP75": average(at(_ALL)[_IOU_75]),
        "APs": average(at(_SMALL)),
        "APm": average(at(_MEDIUM)),
        "APl": average(at(_LARGE)),
        "AR": average(recall[:, :, _ALL, _DETECTIONS_100]),
    }


def _run_coco(store: ObjectStore, class_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """pycocotools' precision (thresholds, recalls, classes, sizes, caps) and recall tables."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress by print
        evaluation = COCOeval(
            _coco(store, store.coco_annotations(store.annotated), class_ids),
            _coco(store, store.coco_annotations(store.predicted), class_ids),
            iouType="segm",
        )
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def _coco(store: ObjectStore, annotations: list, class_ids: np.ndarray) -> COCO:
    dataset: Any = {
        "images": store.coco_images(),
        "annotations": annotations,
        "categories": [{"id": int(k), "name": str(k)} for k in class_ids],
    }
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco
