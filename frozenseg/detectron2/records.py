"""Conversion between this project's records and Detectron2's dictionaries."""

from typing import Any

import torch.nn.functional as F
from detectron2.structures import BitMasks, Boxes
from detectron2.structures import Instances as DetectronInstances
from torch import Tensor, uint8

from frozenseg.errors import UserError
from frozenseg.structures import (
    InputImage,
    Instances,
    PanopticMap,
    Result,
    Segment,
    Target,
    boxes_of,
)

Entry = dict[str, Any]
"""One image of a batch: ``image`` and the other keys of Detectron2's data loaders."""


STANDARD = ("sem_seg", "panoptic_seg", "instances")


def instances_of(target: Target) -> DetectronInstances:
    """Returns a training target as ``gt_classes``, ``gt_masks`` (N, H, W) bool and ``gt_boxes``."""
    return DetectronInstances(
        tuple(target.masks.shape[-2:]),
        gt_classes=target.class_ids,
        gt_masks=target.masks,
        gt_boxes=Boxes(boxes_of(target.masks)),
    )


def target_of(instances: DetectronInstances, padded_size: tuple[int, int]) -> Target:
    """Returns a training target of ``gt_classes`` and ``gt_masks``, padded to the batch's size.

    Raises:
        UserError: the masks are polygons.
    """
    masks = instances.gt_masks
    masks = masks.tensor if isinstance(masks, BitMasks) else masks
    if not isinstance(masks, Tensor):
        raise UserError(
            f"gt_masks are {type(masks).__name__}, expected a bool tensor (N, H, W) or BitMasks: "
            "set INPUT.MASK_FORMAT to bitmask, or use this project's mapper"
        )
    height, width = masks.shape[-2:]
    missing = (0, padded_size[1] - width, 0, padded_size[0] - height)
    return Target(instances.gt_classes, F.pad(masks.bool(), missing))


def input_of(entry: Entry, image: Tensor) -> InputImage:
    """Returns an entry's image, with ``original`` and the output size if the entry has them.

    Args:
        entry: may hold ``original`` (3, H, W), ``height`` and ``width``.
        image: (3, h, w), on the device of the model.
    """
    size = entry.get("height", image.shape[-2]), entry.get("width", image.shape[-1])
    original = entry.get("original", image)
    return InputImage(image, original.round().to(uint8), size)


def entry_of(result: Result) -> Entry:
    """Returns a result as ``sem_seg``, ``panoptic_seg`` and ``instances``, if present.

    Extras, such as mask proposals, keep their own names.
    """
    entry: Entry = dict(result.extras)
    if result.class_maps is not None:
        entry["sem_seg"] = result.class_maps
    if result.panoptic is not None:
        ids, segments = result.panoptic
        entry["panoptic_seg"] = ids, [_segment_info(segment) for segment in segments]
    if result.instances is not None:
        found = result.instances
        entry["instances"] = DetectronInstances(
            tuple(found.masks.shape[-2:]),
            pred_classes=found.class_ids,
            scores=found.scores,
            pred_masks=found.masks,
            pred_boxes=Boxes(found.boxes),
        )
    return entry


def result_of(entry: Entry) -> Result:
    """Returns the result that ``entry_of`` converted, for evaluators."""
    panoptic, instances = entry.get("panoptic_seg"), entry.get("instances")
    maps = entry.get("sem_seg")
    return Result(
        semantic=None if maps is None else maps.argmax(dim=0),
        class_maps=maps,
        panoptic=None
        if panoptic is None
        else PanopticMap(panoptic[0], tuple(_segment(info) for info in panoptic[1])),
        instances=None
        if instances is None
        else Instances(
            instances.pred_classes,
            instances.scores,
            instances.pred_masks,
            instances.pred_boxes.tensor,
        ),
        extras={name: value for name, value in entry.items() if name not in STANDARD},
    )


def _segment_info(segment: Segment) -> dict[str, Any]:
    return {
        "id": segment.id,
        "category_id": segment.class_id,
        "isthing": segment.is_thing,
        "area": segment.area,
        "score": segment.score,
    }


def _segment(info: dict[str, Any]) -> Segment:
    return Segment(
        id=info["id"],
        class_id=info["category_id"],
        is_thing=bool(info["isthing"]),
        is_crowd=bool(info.get("iscrowd", False)),
        area=info.get("area", 0),
        score=info.get("score", 1.0),
    )
