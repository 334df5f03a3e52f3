"""Mean IoU and related measures from one confusion matrix over all images."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from frozenseg.metrics.evaluator import Classes, Row, State, add_counts, ratio


class SemanticEvaluator:
    """mIoU in both conventions, frequency-weighted IoU and accuracies over images.

    Stores only the (K, K) confusion matrix: 6 MB for 847 classes.
    """

    def __init__(self, classes: Classes, *, ignore_label: int = 255) -> None:
        self.classes, self.ignore_label = classes, ignore_label
        num_classes = len(classes)
        self._counts = {"confusion": np.zeros((num_classes, num_classes), dtype=np.int64)}

    def process(self, prediction: Tensor, target: Tensor) -> None:
        """Adds one image: (H, W) predicted and (H, W) annotated class ids."""
        confusion = count_pixels(
            prediction.numpy(force=True),
            target.numpy(force=True),
            num_classes=len(self.classes),
            ignore_label=self.ignore_label,
        )
        self._counts["confusion"] += confusion

    def evaluate(self) -> dict[str, float]:
        """Returns mIoU, FWIoU and accuracies of all, seen and unseen classes, in percent.

        ``semantic/mIoU`` averages over annotated classes; ``semantic/mIoU_predicted_too`` also over
        classes that were only predicted, with IoU 0. ``FWIoU`` weights each class's IoU by its
        share of the annotated pixels, and ``pixel_accuracy`` is the share of annotated pixels that
        are predicted correctly. For a group, both use only pixels annotated with its classes.
        """
        measures = semantic_quality(self._counts["confusion"])
        annotated = self._counts["confusion"].sum(axis=1)
        averages = {
            "mIoU": np.where(annotated > 0, measures["IoU"], np.nan),
            "mIoU_predicted_too": measures["IoU"],
            "mean_accuracy": measures["accuracy"],
        }
        by_pixels = {"FWIoU": measures["IoU"], "pixel_accuracy": measures["accuracy"]}
        return self.classes.averages("semantic", averages) | self.classes.averages(
            "semantic", by_pixels, weights=annotated
        )

    def per_class(self) -> list[Row]:
        confusion = self._counts["confusion"]
        pixels = {"annotated_px": confusion.sum(axis=1), "predicted_px": confusion.sum(axis=0)}
        return self.classes.rows(semantic_quality(confusion) | pixels)

    def state_dict(self) -> State:
        return {name: array.copy() for name, array in self._counts.items()}

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        add_counts(self._counts, other)


def count_pixels(
    prediction: np.ndarray, target: np.ndarray, *, num_classes: int, ignore_label: int
) -> np.ndarray:
    """Counts pixels by annotated (row) and predicted (column) class.

    Args:
        prediction, target: (H, W) class ids.
        num_classes: K.
        ignore_label: annotated pixels with this label are left out.

    Returns:
        (K, K) int64.

    Raises:
        ValueError: sizes differ, or a class id is neither in 0..K-1 nor the ignore label.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction is {prediction.shape} but the annotation {target.shape}: "
            "predict at the annotation's size"
        )
    counted = target != ignore_label
    annotated = target[counted].astype(np.int64)
    predicted = prediction[counted].astype(np.int64)
    for kind, ids in (("annotated", annotated), ("predicted", predicted)):
        if ids.size and not (ids.min() >= 0 and ids.max() < num_classes):
            wrong = ids[(ids < 0) | (ids >= num_classes)][0]
            raise ValueError(
                f"{kind} class id {wrong} is not among the {num_classes} classes "
                f"and is not the ignore label {ignore_label}"
            )
    pairs = np.bincount(annotated * num_classes + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def semantic_quality(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Returns IoU and accuracy per class, as fractions; nan where undefined.

    IoU = correct / (annotated + predicted - correct); accuracy = correct / annotated.
    """
    correct = confusion.diagonal()
    annotated, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "IoU": ratio(correct, annotated + predicted - correct),
        "accuracy": ratio(correct, annotated),
    }
