"""Class-agnostic recall of mask proposals (Table 8)."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from frozenseg.metrics.evaluator import Classes, Row, State, add_counts, ratio
from frozenseg.metrics.overlap import count_pixels, pack_masks, shared_pixels

THRESHOLDS = (0.5, 0.75, 0.9)


class RecallEvaluator:
    """Recall of mask proposals over the regions of all, seen and unseen classes.

    Each class in an image's semantic annotation is one region; any proposal may match it.
    """

    def __init__(self, classes: Classes, *, ignore_label: int = 255) -> None:
        self.classes, self.ignore_label = classes, ignore_label
        num_classes = len(classes)
        self._counts = {
            "found": np.zeros((len(THRESHOLDS), num_classes), dtype=np.int64),
            "regions": np.zeros(num_classes, dtype=np.int64),
        }

    def process(self, masks: Tensor, target: Tensor) -> None:
        """Adds one image.

        Args:
            masks: (Q, H, W) bool proposals of the model and, if wanted, of SAM.
            target: (H, W) annotated class ids.
        """
        class_ids, best_iou = best_overlaps(masks, target, ignore_label=self.ignore_label)
        self._counts["regions"][class_ids] += 1
        for row, threshold in enumerate(THRESHOLDS):
            self._counts["found"][row, class_ids] += best_iou > threshold

    def evaluate(self) -> dict[str, float]:
        """Returns ``recall/R50``, ``recall/seen/R50``, ... in percent of the regions."""
        return {
            "/".join(filter(None, ("recall", group, name))): self._recall(row, members)
            for group, members in self.classes.groups().items()
            for row, name in enumerate(_names())
        }

    def per_class(self) -> list[Row]:
        found, regions = self._counts["found"], self._counts["regions"]
        recalls = {name: ratio(found[row], regions) for row, name in enumerate(_names())}
        return self.classes.rows(recalls | {"regions": regions})

    def state_dict(self) -> State:
        return {name: array.copy() for name, array in self._counts.items()}

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        add_counts(self._counts, other)

    def _recall(self, row: int, members: np.ndarray) -> float:
        regions = self._counts["regions"][members].sum()
        return 100.0 * float(ratio(self._counts["found"][row, members].sum(), regions))


def best_overlaps(
    masks: Tensor, target: Tensor, *, ignore_label: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the classes present in ``target`` and the best IoU of any mask with each region.

    Pixels of a mask on the ignore label count in the union. Without masks the best IoU is 0.

    Args:
        masks: (Q, H, W) bool.
        target: (H, W) class ids.
        ignore_label: pixels with this label belong to no region.

    Returns:
        (R,) class ids, (R,) IoU.
    """
    if masks.shape[1:] != target.shape:
        sizes = f"{tuple(masks.shape[1:])} but the annotation {tuple(target.shape)}"
        raise ValueError(f"masks are {sizes}: predict at the annotation's size")
    class_ids = target.unique()
    class_ids = class_ids[class_ids != ignore_label]
    regions = pack_masks(target == class_ids[:, None, None])
    proposals = pack_masks(masks)
    shared = shared_pixels(proposals, regions)
    union = count_pixels(proposals)[:, None] + count_pixels(regions) - shared
    return class_ids.numpy(force=True), (shared / union).max(axis=0, initial=0.0)


def _names() -> list[str]:
    return [f"R{round(100 * threshold)}" for threshold in THRESHOLDS]
