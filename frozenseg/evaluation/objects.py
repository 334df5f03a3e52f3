"""Annotated and predicted objects of many images, kept as run lengths until all have been seen."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle
from torch import Tensor

from frozenseg.evaluation.evaluator import State
from frozenseg.structures import Instances, PanopticMap


class InstanceAnnotation(NamedTuple):
    """One annotated object."""

    class_id: int
    mask: Tensor  # (H, W) bool
    is_crowd: bool = False
    area: float | None = None  # for size bins, as the annotation states it; None: the mask's pixels


def things_of(panoptic: PanopticMap) -> list[InstanceAnnotation]:
    """The things of a panoptic map as objects."""
    return [
        InstanceAnnotation(segment.class_id, panoptic.ids == segment.id, segment.is_crowd)
        for segment in panoptic.segments
        if segment.is_thing
    ]


class StoredObject(NamedTuple):
    """One mask of one image; an annotation has score 1, a prediction is never crowd."""

    image: int  # counted in order of arrival
    class_id: int
    score: float
    is_crowd: bool
    area: float
    runs: bytes  # COCO's compressed run lengths


_COLUMNS = {"image": "i8", "class_id": "i8", "score": "f8", "is_crowd": "?", "area": "f8"}


class ObjectStore:
    """What instance evaluators remember of a stream of images."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []  # (height, width) of each image
        self.annotated: list[StoredObject] = []
        self.predicted: list[StoredObject] = []

    def add_image(self, prediction: Instances, annotations: Sequence[InstanceAnnotation]) -> None:
        """Takes the objects of one image.

        Raises:
            ValueError: masks of the image differ in size.
        """
        size = _common_size(prediction, annotations)
        image = len(self.sizes)
        self.sizes.append(size)
        for annotation in annotations:
            (runs,) = encode_masks(annotation.mask[None])
            area = annotation.area
            area = float(rle.area(_coco_mask(size, runs))) if area is None else float(area)
            self.annotated.append(
                StoredObject(image, int(annotation.class_id), 1.0, annotation.is_crowd, area, runs)
            )
        class_ids, scores = prediction.class_ids.tolist(), prediction.scores.tolist()
        for class_id, score, runs in zip(
            class_ids, scores, encode_masks(prediction.masks), strict=True
        ):
            area = float(rle.area(_coco_mask(size, runs)))
            self.predicted.append(StoredObject(image, class_id, score, False, area, runs))

    def state_dict(self) -> State:
        """Plain arrays: one column per field, all run lengths end to end."""
        sizes = np.array(self.sizes, dtype=np.int64).reshape(-1, 2)
        return (
            {"sizes": sizes}
            | _pack("annotated", self.annotated)
            | _pack("predicted", self.predicted)
        )

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        """Appends the images of another store's ``state_dict``."""
        shift = len(self.sizes)
        self.sizes += [(int(height), int(width)) for height, width in other["sizes"]]
        self.annotated += _unpack("annotated", other, shift)
        self.predicted += _unpack("predicted", other, shift)

    def coco_images(self) -> list[dict[str, Any]]:
        """COCO's ``images``; ids count from 1 in order of arrival."""
        return [
            {"id": index, "height": height, "width": width}
            for index, (height, width) in enumerate(self.sizes, start=1)
        ]

    def coco_annotations(self, objects: Iterable[StoredObject]) -> list[dict[str, Any]]:
        """COCO's ``annotations``. Ids count from 1: to pycocotools, 0 means unmatched."""
        return [
            {
                "id": index,
                "image_id": each.image + 1,
                "category_id": each.class_id,
                "score": each.score,
                "iscrowd": int(each.is_crowd),
                "area": each.area,
                "segmentation": _coco_mask(self.sizes[each.image], each.runs),
            }
            for index, each in enumerate(objects, start=1)
        ]


def encode_masks(masks: Tensor) -> list[bytes]:
    """COCO's compressed run lengths of (N, H, W) bool masks."""
    columns_first = np.ascontiguousarray(masks.numpy(force=True).transpose(0, 2, 1)).view(np.uint8)
    encoded: Any = rle.encode(columns_first.transpose(2, 1, 0))
    return [each["counts"] for each in encoded]


def _coco_mask(size: tuple[int, int], runs: bytes) -> Any:
    return {"size": list(size), "counts": runs}


def _common_size(
    prediction: Instances, annotations: Sequence[InstanceAnnotation]
) -> tuple[int, int]:
    sizes = {tuple(annotation.mask.shape) for annotation in annotations}
    sizes.add(tuple(prediction.masks.shape[1:]))
    if len(sizes) > 1:
        raise ValueError(
            f"masks of one image have sizes {sorted(sizes)}: predict at the annotation's"
        )
    height, width = sizes.pop()
    return height, width


def _pack(kind: str, objects: Sequence[StoredObject]) -> State:
    columns = {
        f"{kind}/{field}": np.array([getattr(each, field) for each in objects], dtype=dtype)
        for field, dtype in _COLUMNS.items()
    }
    return columns | {
        f"{kind}/runs": np.frombuffer(b"".join(each.runs for each in objects), dtype=np.uint8),
        f"{kind}/run_lengths": np.array([len(each.runs) for each in objects], dtype=np.int64),
    }


def _unpack(kind: str, state: Mapping[str, np.ndarray], shift: int) -> list[StoredObject]:
    columns = {field: state[f"{kind}/{field}"].tolist() for field in _COLUMNS}
    columns["image"] = [image + shift for image in columns["image"]]
    ends = np.cumsum(state[f"{kind}/run_lengths"]).tolist()
    data = state[f"{kind}/runs"].tobytes()
    runs = [data[start:end] for start, end in pairwise([0, *ends])]
    return [StoredObject(*fields) for fields in zip(*columns.values(), runs, strict=True)]
