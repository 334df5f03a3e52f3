"""Annotations made from others: panoptic maps from objects or labels, and the reverse."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from frozenseg.structures import InstanceAnnotation, PanopticMap, Segment


def panoptic_of_objects(
    objects: Sequence[InstanceAnnotation],
    size: tuple[int, int],
    *,
    is_thing: Sequence[bool],
    labels: Tensor | None = None,
) -> PanopticMap:
    """A panoptic map of annotated objects, for training on files without one.

    Objects may overlap: stuff is painted first, then crowds, then things from large to small, so
    that the smallest stays visible. All stuff of one class becomes one segment. Pixels of no object
    are void, and objects without a visible pixel are left out.

    Args:
        objects: of one image.
        size: (height, width).
        is_thing: by class.
        labels: (H, W) class ids whose stuff lies under the objects.
    """
    ids = torch.zeros(size, dtype=torch.int32)
    known: dict[int, Segment] = {}
    of_stuff: dict[int, int] = {}

    def paint(mask: Tensor, class_id: int, *, is_crowd: bool = False) -> None:
        number, thing = len(known) + 1, is_thing[class_id]
        if not thing:
            number = of_stuff.setdefault(class_id, number)
        ids[mask] = number
        known.setdefault(number, Segment(number, class_id, thing, is_crowd=is_crowd))

    def order(each: InstanceAnnotation) -> tuple[bool, bool, int]:
        return is_thing[each.class_id], not each.is_crowd, -int(each.mask.sum())

    for class_id in [] if labels is None else labels.unique().tolist():
        if class_id < len(is_thing) and not is_thing[class_id]:
            paint(labels == class_id, class_id)
    for each in sorted(objects, key=order):
        paint(each.mask, each.class_id, is_crowd=each.is_crowd)
    return _visible(ids, known)


def panoptic_of_labels(
    labels: Tensor, *, is_thing: Sequence[bool], ignore_label: int
) -> PanopticMap:
    """A panoptic map of (H, W) class ids with one segment per class; ignored pixels are void."""
    ids = torch.where(labels == ignore_label, 0, labels + 1).int()
    known = {
        number: Segment(number, number - 1, is_thing[number - 1])
        for number in ids.unique().tolist()
        if number
    }
    return _visible(ids, known)


def labels_of_panoptic(panoptic: PanopticMap, *, ignore_label: int) -> Tensor:
    """(H, W) int64 class ids of a panoptic map; crowds count, pixels of no segment are ignored."""
    ids = np.array([0, *(segment.id for segment in panoptic.segments)])
    classes = np.array([ignore_label, *(segment.class_id for segment in panoptic.segments)])
    order = np.argsort(ids)
    rows = np.searchsorted(ids[order], panoptic.ids.numpy())
    return torch.from_numpy(classes[order][rows])


def without_classes(panoptic: PanopticMap, new_ids: dict[int, int]) -> PanopticMap:
    """The map with only the classes of ``new_ids``, under their new ids.

    Pixels of the other segments keep values that no segment lists, so that no target covers them.
    """
    segments = tuple(
        segment._replace(class_id=new_ids[segment.class_id])
        for segment in panoptic.segments
        if segment.class_id in new_ids
    )
    return PanopticMap(panoptic.ids, segments)


def _visible(ids: Tensor, known: dict[int, Segment]) -> PanopticMap:
    """Segments that have pixels, with their areas."""
    areas = torch.bincount(ids.flatten().long(), minlength=max(known, default=0) + 1).tolist()
    segments = tuple(
        segment._replace(area=areas[number]) for number, segment in known.items() if areas[number]
    )
    return PanopticMap(ids, segments)
