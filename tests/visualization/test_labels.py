"""Names are inside their segments and the drawing, and never overlap."""

import numpy as np
from PIL import Image

from frozenseg.visualization.labels import Label, LabelRequest, broken, draw_labels, place_labels

RED = (200, 30, 30)


def place(*requests: tuple[np.ndarray, str], size: tuple[int, int], font_size: int = 20):
    return place_labels([LabelRequest(*each, RED) for each in requests], size, font_size=font_size)


def middle(label: Label) -> tuple[int, int]:
    x0, y0, x1, y1 = label.box
    return (y0 + y1) // 2, (x0 + x1) // 2


def disc(size: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - size // 2
    return rows**2 + columns**2 < radius**2


def test_name_of_a_ring_is_on_the_ring_and_not_in_its_hole():
    ring = disc(400, 190) & ~disc(400, 90)
    (label,) = place((ring, "ring"), size=(400, 400))
    assert ring[middle(label)]


def test_wide_name_is_placed_in_the_wide_part():
    mask = np.zeros((300, 300), dtype=bool)
    mask[:240, :90] = True  # a tall bar, which holds the largest circle
    mask[260:, :] = True  # a flat one
    (label,) = place((mask, "cat"), size=(300, 300))
    (wide,) = place((mask, "incomprehensibilities"), size=(300, 300))
    assert middle(label)[0] < 240
    assert middle(wide)[0] > 260


def test_plate_stays_on_the_picture_even_where_its_segment_is_a_corner():
    mask = np.zeros((200, 300), dtype=bool)
    mask[:4, -4:] = True
    (label,) = place((mask, "purple hexagon"), size=(200, 300))
    x0, y0, x1, y1 = label.box
    assert 0 <= x0 < x1 <= 300 and 0 <= y0 < y1 <= 200


def test_names_of_one_place_do_not_cover_each_other():
    everywhere = np.ones((300, 300), dtype=bool)
    labels = place(*[(everywhere, f"word {n}") for n in range(6)], size=(300, 300))
    boxes = [label.box for label in labels]
    assert len(boxes) == 6
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        for u0, v0, u1, v1 in boxes[:index]:
            assert x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0


def test_name_without_a_free_position_is_omitted():
    spot = np.zeros((200, 200), dtype=bool)
    spot[100, 100] = True
    labels = place((spot, "first"), (spot, "second"), size=(200, 200))
    assert [label.text for label in labels] == ["first"]


def test_long_name_is_broken_into_two_lines_of_similar_length():
    (label,) = place((np.ones((300, 300), dtype=bool), "striped orange crescent"), size=(300, 300))
    assert label.text == "striped orange\ncrescent"


def test_short_name_and_single_word_stay_on_one_line():
    assert broken("red circle") == "red circle"
    assert broken("incomprehensibilities") == "incomprehensibilities"


def test_place_is_the_same_for_a_mask_at_half_the_resolution():
    (full,) = place((disc(400, 150), "disc"), size=(400, 400))
    (half,) = place((disc(200, 75), "disc"), size=(400, 400))
    assert np.allclose(full.box, half.box, atol=6)


def test_plates_have_a_border_in_their_colour():
    picture = Image.new("RGB", (200, 100), "white")
    draw_labels(picture, place((np.ones((100, 200), dtype=bool), "cat"), size=(100, 200)))
    pixels = np.asarray(picture).reshape(-1, 3)
    assert (pixels == RED).all(axis=1).any()
    assert (pixels.max(axis=1) < 80).sum() > 200  # the plate
