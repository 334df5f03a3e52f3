"""Sizes, offsets and padding by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frozenseg.data.augmentation import (
    Box,
    crop_box,
    jittered_size,
    pad_to_square,
    resize_for_test,
    resize_image,
    resize_labels,
)

SIDES = st.integers(1, 400)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 1066.67
        ((640, 480), (1067, 800)),
        ((426, 640), (800, 1202)),  # 1201.88
        ((375, 500), (800, 1067)),
        ((200, 640), (417, 1333)),  # the long side would be 2560: 1333, and 416.56
        ((1000, 1000), (800, 800)),
        ((320, 421), (800, 1053)),  # 1052.5 is rounded up
    ],
)
def test_the_short_side_rules_until_the_long_one_is_too_long(size, expected) -> None:
    image = torch.zeros(3, *size, dtype=torch.uint8)
    assert tuple(resize_for_test(image, 800, 1333).shape) == (3, *expected)


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    image = torch.randint(0, 256, (3, 30, 50), dtype=torch.uint8)
    assert torch.equal(resize_for_test(image, 30, 50), image)


@given(SIDES, SIDES, SIDES, SIDES)
def test_no_test_size_exceeds_the_limits(height, width, short_side, longer) -> None:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    long_side = short_side + longer
    _, new_height, new_width = resize_for_test(image, short_side, long_side).shape
    assert 1 <= min(new_height, new_width) <= short_side
    assert max(new_height, new_width) <= long_side


def test_resizing_blends_pictures_and_picks_ids() -> None:
    image = torch.tensor([[[0, 200]]], dtype=torch.uint8).expand(3, 1, 2)
    assert resize_image(image, (1, 1)).flatten().tolist() == [100, 100, 100]
    ids = torch.tensor([[7, -1], [1000, 16777215]], dtype=torch.int32)
    enlarged = resize_labels(ids, (4, 4))
    assert enlarged.tolist() == ids.repeat_interleave(2, 0).repeat_interleave(2, 1).tolist()
    assert enlarged.dtype == torch.int32


def test_resizing_to_nothing_leaves_a_pixel() -> None:
    assert resize_image(torch.zeros(3, 4, 4, dtype=torch.uint8), (0, 3)).shape == (3, 1, 3)
    assert resize_labels(torch.zeros(4, 4, dtype=torch.int32), (2, 0)).shape == (2, 1)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((100, 200), 1.0, (32, 64)),
        ((200, 100), 0.5, (32, 16)),
        ((100, 200), 2.0, (64, 128)),
        ((480, 640), 0.1, (5, 6)),  # 4.8 and 6.4
        ((1, 1000), 0.1, (1, 6)),  # never less than a pixel
    ],
)
def test_jitter_fits_the_picture_into_a_scaled_square(size, scale, expected) -> None:
    assert jittered_size(size, crop_size=64, scale=scale) == expected


def test_one_number_moves_the_crop_along_both_axes() -> None:
    assert crop_box((200, 100), crop_size=64, fraction=0.0) == Box(0, 0, 64, 64)
    assert crop_box((200, 100), crop_size=64, fraction=0.5) == Box(68, 18, 132, 82)
    assert crop_box((200, 100), crop_size=64, fraction=1.0) == Box(136, 36, 200, 100)
    assert crop_box((40, 100), crop_size=64, fraction=1.0) == Box(0, 36, 40, 100)


def test_a_part_of_the_resized_picture_is_what_the_whole_has_there() -> None:
    image = torch.randint(0, 256, (3, 31, 47), dtype=torch.uint8)
    whole = resize_image(image, (50, 90))
    assert torch.equal(resize_image(image, (50, 90), Box(3, 10, 40, 90)), whole[:, 3:40, 10:90])
    labels = torch.randint(0, 99, (31, 47), dtype=torch.int32)
    whole = resize_labels(labels, (50, 90))
    assert torch.equal(resize_labels(labels, (50, 90), Box(3, 10, 40, 90)), whole[3:40, 10:90])


def test_a_square_is_filled_up_on_the_right_and_below() -> None:
    values = torch.arange(6).reshape(1, 2, 3)
    filled = [[[0, 1, 2, -1], [3, 4, 5, -1], [-1, -1, -1, -1], [-1, -1, -1, -1]]]
    assert pad_to_square(values, 4, fill=-1).tolist() == filled
    assert pad_to_square(values[:, :, :2], 2, fill=-1).tolist() == [[[0, 1], [3, 4]]]
