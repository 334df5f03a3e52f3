"""Drawings show every segment in its class's colour and void as void."""

import numpy as np
import pytest
import torch
from PIL import Image

from frozenseg.structures import Instances, PanopticMap, Segment, boxes_of
from frozenseg.visualization import (
    DrawingStyle,
    draw_instances,
    draw_panoptic,
    draw_semantic,
    enlarged,
    side_by_side,
)
from frozenseg.visualization.layout import SHORT_SIDE_PX

GREY = np.full((96, 128, 3), 128, dtype=np.uint8)
COLORED = DrawingStyle(colors=[(255, 0, 0), (0, 0, 255)])


def halves(*, left: int, right: int) -> torch.Tensor:
    ids = torch.full((96, 128), left, dtype=torch.int32)
    ids[:, 64:] = right
    return ids


def two_segments(*, void: bool = False) -> PanopticMap:
    segments = (Segment(1, 0, True), Segment(2, 1, False))
    return PanopticMap(halves(left=1, right=2), segments[: 1 if void else 2])


def strip(picture: Image.Image, share: float) -> np.ndarray:
    """Columns of the picture, away from the name in the middle: (N, 3)."""
    pixels = np.asarray(picture).astype(int)
    column = int(share * picture.width)
    rows = picture.height // 5
    return pixels[5:rows, column - 5 : column + 5].reshape(-1, 3)


def test_small_image_is_enlarged_and_a_large_one_keeps_its_size():
    assert enlarged(GREY).size == (1024, 768)
    large = np.zeros((900, 1200, 3), dtype=np.uint8)
    assert enlarged(large).size == (1200, 900)
    assert min(draw_panoptic(GREY, two_segments(), ["a", "b"]).size) == SHORT_SIDE_PX


def test_drawing_keeps_the_size_of_the_image_on_request():
    style = DrawingStyle(enlarge=False)
    assert draw_panoptic(GREY, two_segments(), ["a", "b"], style).size == (128, 96)


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, (128, 128, 128)), (1.0, (255, 0, 0))])
def test_alpha_is_the_opacity_of_the_colour(alpha: float, expected: tuple[int, int, int]):
    style = COLORED._replace(alpha=alpha)
    picture = draw_panoptic(GREY, two_segments(), ["a", "b"], style)
    assert (strip(picture, 0.25) == expected).all()


def test_scores_are_written_on_request_and_only_where_there_are_some():
    plain, scored = DrawingStyle(), DrawingStyle(scores=True)
    panoptic = two_segments()
    pictures = [draw_panoptic(GREY, panoptic, ["a", "b"], style) for style in (plain, scored)]
    assert pictures[0].tobytes() != pictures[1].tobytes()
    expected = draw_panoptic(GREY, panoptic, ["a 1.00", "b 1.00"], plain)
    assert pictures[1].tobytes() == expected.tobytes()
    ids = halves(left=0, right=1)
    pictures = [draw_semantic(GREY, ids, ["a", "b"], style) for style in (plain, scored)]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_enlargement_of_a_flat_image_is_limited():
    assert max(enlarged(np.zeros((10, 400, 3), dtype=np.uint8)).size) <= 2048


def test_each_segment_is_tinted_in_its_class_colour():
    picture = draw_panoptic(GREY, two_segments(), ["a", "b"], COLORED)
    left, right = strip(picture, 0.25).mean(axis=0), strip(picture, 0.75).mean(axis=0)
    assert left[0] > 180 and left[2] < 80
    assert right[2] > 180 and right[0] < 80


def test_a_white_line_separates_the_segments():
    pixels = np.asarray(draw_panoptic(GREY, two_segments(), ["a", "b"], COLORED))
    assert pixels[20, 512 - 4 : 512 + 4].min(axis=1).max() > 200


def test_names_are_written_into_their_segments():
    with_names = np.asarray(draw_panoptic(GREY, two_segments(), ["cat", "dog"])).astype(int)
    others = np.asarray(draw_panoptic(GREY, two_segments(), ["cat", "cow"])).astype(int)
    _, columns = np.nonzero((with_names != others).any(axis=-1))
    assert len(columns) and columns.min() > 512


def test_pixels_of_no_listed_segment_are_hatched():
    picture = draw_panoptic(GREY, two_segments(void=True), ["a", "b"], COLORED)
    void = strip(picture, 0.75)
    assert (void.max(axis=1) - void.min(axis=1)).max() == 0  # no hue
    assert void.max() < 128 and void.std() > 10  # dark, with stripes


def test_pixels_of_no_listed_segment_are_hatched_in_a_large_image_too():
    large = np.full((800, 900, 3), 128, dtype=np.uint8)
    ids = torch.full((800, 900), 7, dtype=torch.int32)
    ids[:, :450] = 1
    listed = PanopticMap(ids, (Segment(1, 0, True),))
    void = strip(draw_panoptic(large, listed, ["a"], COLORED), 0.75)
    assert void.max() < 128 and void.std() > 10


def test_semantic_ids_without_a_name_are_void():
    picture = draw_semantic(GREY, halves(left=1, right=255), ["a", "b"], COLORED)
    assert strip(picture, 0.25).mean(axis=0)[2] > 180
    assert strip(picture, 0.75).max() < 128
    negative = draw_semantic(GREY, halves(left=1, right=-1), ["a", "b"], COLORED)
    assert negative.tobytes() == picture.tobytes()


def test_better_instance_lies_in_front_and_a_weak_one_is_not_drawn():
    masks = torch.zeros(3, 96, 128, dtype=torch.bool)
    masks[0, :, :64] = True
    masks[1, :, :100] = True
    masks[2] = True
    instances = Instances(
        torch.tensor([0, 1, 0]), torch.tensor([0.9, 0.7, 0.2]), masks, boxes_of(masks)
    )
    picture = draw_instances(GREY, instances, ["a", "b"], COLORED)
    assert strip(picture, 0.25).mean(axis=0)[0] > 180
    assert strip(picture, 0.65).mean(axis=0)[2] > 180
    assert strip(picture, 0.9).max() < 128


def test_class_keeps_its_colour_when_another_is_absent():
    alone = PanopticMap(halves(left=0, right=2), (Segment(2, 1, False),))
    both = draw_panoptic(GREY, two_segments(), ["a", "b"])
    assert np.array_equal(strip(both, 0.75), strip(draw_panoptic(GREY, alone, ["a", "b"]), 0.75))


def test_smallest_images_and_empty_maps_are_drawn():
    dot = np.zeros((1, 1, 3), dtype=np.uint8)
    assert draw_panoptic(dot, PanopticMap(torch.zeros(1, 1, dtype=torch.int32), ()), []).size
    one = PanopticMap(torch.ones(1, 1, dtype=torch.int32), (Segment(1, 0, True),))
    assert draw_panoptic(dot, one, ["a"]).size == (768, 768)


def test_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(96, 128\).*\(4, 4\)"):
        draw_semantic(GREY, np.zeros((4, 4), dtype=int), ["a"])


def test_side_by_side_brings_pictures_to_one_height_under_their_titles():
    tall, flat = Image.new("RGB", (100, 200), "red"), Image.new("RGB", (100, 100), "blue")
    row = side_by_side([tall, flat], ["tall", "flat"])
    pixels = np.asarray(row)
    assert (pixels == (0, 0, 255)).all(axis=-1).sum() == 200 * 200
    assert row.height > 200
    assert (pixels[:28] < 128).any()  # the titles
