"""Mean intersection over union and its relatives, from one confusion matrix over all images."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from frozenseg.metrics.evaluator import Classes, Row, State, add_counts, ratio


class SemanticEvaluator:
    """mIoU in both conventions, frequency-weighted IoU and accuracies of a stream of images.

    Only the (K, K) confusion matrix is kept: 847 classes take 6 MB.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_label: int = 255,
        seen: Sequence[bool] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.classes = Classes(num_classes, seen=seen, names=names)
        self.ignore_label = ignore_label
        self._counts = {"confusion": np.zeros((num_classes, num_classes), dtype=np.int64)}

    def process(self, prediction: Tensor, target: Tensor) -> None:
        """Counts one image: (H, W) predicted class ids against (H, W) annotated ones."""
        confusion = count_pixels(
            prediction.numpy(force=True),
            target.numpy(force=True),
            num_classes=len(self.classes),
            ignore_label=self.ignore_label,
        )
        self._counts["confusion"] += confusion

    def evaluate(self) -> dict[str, float]:
        """mIoU, FWIoU and accuracies of all classes, of the seen and of the unseen ones.

        ``semantic/mIoU`` averages over annotated classes; ``semantic/mIoU_predicted_too`` also over
        those that were only predicted, with IoU 0. ``FWIoU`` weighs each class's IoU by its share
        of the annotated pixels, and ``pixel_accuracy`` is the share of these that are predicted
        right; of a group, both count the pixels annotated with its classes alone.
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
    """(K, K) pixels by annotated (row) and predicted (column) class; the ignore label is left out.

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
    """IoU and accuracy per class, as fractions; nan where undefined.

    IoU = correct / (annotated + predicted - correct); accuracy = correct / annotated.
    """
    correct = confusion.diagonal()
    annotated, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "IoU": ratio(correct, annotated + predicted - correct),
        "accuracy": ratio(correct, annotated),
    }
