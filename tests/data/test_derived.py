"""Panoptic maps from objects and label maps, and the reverse, by hand."""

import torch

from frozenseg.data.derived import (
    labels_of_panoptic,
    panoptic_of_labels,
    panoptic_of_objects,
    without_classes,
)
from frozenseg.structures import InstanceAnnotation, PanopticMap, Segment

IS_THING = (True, False, True)  # ball, lawn, player


def mask(rows: str) -> torch.Tensor:
    return torch.tensor([[cell == "x" for cell in row] for row in rows.split()])


def test_objects_are_painted_stuff_first_then_crowds_then_large_to_small() -> None:
    objects = [
        InstanceAnnotation(0, mask("x.... .....")),  # a ball in front of the player
        InstanceAnnotation(2, mask("xx... xx...")),
        InstanceAnnotation(1, mask("..... xxx..")),
        InstanceAnnotation(1, mask("..... ....x")),  # the same stuff again
        InstanceAnnotation(2, mask(".xxx. ....."), is_crowd=True),
    ]
    found = panoptic_of_objects(objects, (2, 5), is_thing=IS_THING)
    assert found.ids.tolist() == [[4, 3, 2, 2, 0], [3, 3, 1, 0, 1]]
    assert found.segments == (
        Segment(1, 1, False, area=2),
        Segment(2, 2, True, is_crowd=True, area=2),
        Segment(3, 2, True, area=3),
        Segment(4, 0, True, area=1),
    )


def test_a_hidden_object_is_no_segment() -> None:
    objects = [InstanceAnnotation(0, mask("xx")), InstanceAnnotation(0, mask("xx"))]
    found = panoptic_of_objects(objects, (1, 2), is_thing=IS_THING)
    assert [segment.id for segment in found.segments] == [2]


def test_stuff_of_label_maps_lies_under_objects() -> None:
    labels = torch.tensor([[1, 1, 0, 255]])  # the ball's label has no outline: it is void
    found = panoptic_of_objects(
        [InstanceAnnotation(2, mask("x..."))], (1, 4), is_thing=IS_THING, labels=labels
    )
    assert found.ids.tolist() == [[2, 1, 0, 0]]
    assert [segment.class_id for segment in found.segments] == [1, 2]


def test_labels_become_one_segment_per_class_and_come_back() -> None:
    labels = torch.tensor([[0, 1, 1, 255, 2]])
    found = panoptic_of_labels(labels, is_thing=IS_THING, ignore_label=255)
    assert found.ids.tolist() == [[1, 2, 2, 0, 3]] and found.ids.dtype == torch.int32
    assert [(each.class_id, each.is_thing, each.area) for each in found.segments] == [
        (0, True, 1),
        (1, False, 2),
        (2, True, 1),
    ]
    assert torch.equal(labels_of_panoptic(found, ignore_label=255), labels)


def test_unseen_classes_leave_pixels_that_no_target_covers() -> None:
    segments = (Segment(7, 0, True), Segment(9, 2, True))
    found = without_classes(PanopticMap(torch.tensor([[7, 9]]), segments), {1: 0, 2: 1})
    assert found.segments == (Segment(9, 1, True),)
