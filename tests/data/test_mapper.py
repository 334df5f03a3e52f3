"""What training sees of an annotated picture."""

import numpy as np
import pytest
import torch

from frozenseg.builders.training import build_mapper
from frozenseg.config import ConfigError, load_config
from frozenseg.data.mapper import TrainingMapper, target_of
from frozenseg.structures import PanopticMap, Sample, Segment


def sample_of(
    ids: list[list[int]], *, classes: dict[int, int], crowd: tuple[int, ...] = ()
) -> Sample:
    """A picture whose red channel shows the segment ids."""
    id_map = torch.tensor(ids, dtype=torch.int32)
    segments = tuple(
        Segment(id=key, class_id=value, is_thing=True, is_crowd=key in crowd)
        for key, value in classes.items()
    )
    image = torch.stack([id_map.to(torch.uint8)] * 3)
    return Sample(image, image_id=1, file_name="a.jpg", panoptic=PanopticMap(id_map, segments))


def plain(**changes) -> TrainingMapper:
    return TrainingMapper(
        **({"crop_size": 4, "min_scale": 1.0, "max_scale": 1.0, "flip": 0.0} | changes)
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


SQUARE = sample_of([[1, 1, 2, 2]] * 2 + [[3, 3, 0, 0]] * 2, classes={1: 10, 2: 20, 3: 10})


def test_without_jitter_and_flip_the_picture_is_itself() -> None:
    image, target = plain()(SQUARE, rng())
    assert torch.equal(image, SQUARE.image)
    assert target.class_ids.tolist() == [10, 20, 10]
    assert target.masks.dtype == torch.bool
    assert torch.equal(
        target.masks, SQUARE.panoptic.ids[None] == torch.tensor([1, 2, 3])[:, None, None]
    )


def test_picture_and_target_flip_together() -> None:
    image, target = plain(flip=1.0)(SQUARE, rng())
    assert torch.equal(image, SQUARE.image.flip(-1))
    assert torch.equal(target.masks, plain()(SQUARE, rng())[1].masks.flip(-1))


def test_what_is_beside_the_picture_is_grey_and_no_segment() -> None:
    image, target = plain(crop_size=8)(
        sample_of([[1, 1], [2, 2], [2, 2], [2, 2]], classes={1: 0, 2: 1}), rng()
    )
    assert image.shape == (3, 8, 8)
    assert (image[:, :, 4:] == 128).all()
    assert (target.masks[:, :, :4].any(0)).all() and not target.masks[:, :, 4:].any()


def test_a_segment_whose_id_is_the_official_padding_gets_no_padding() -> None:
    _, target = plain(crop_size=4)(sample_of([[16777215] * 2] * 4, classes={16777215: 5}), rng())
    assert target.masks.sum() == 8


def test_crowds_are_dropped_and_their_pixels_are_no_ones() -> None:
    sample = sample_of([[1, 1, 2, 2]] * 4, classes={1: 10, 2: 20}, crowd=(2,))
    _, target = plain()(sample, rng())
    assert target.class_ids.tolist() == [10]
    assert not target.masks[:, :, 2:].any()


def cropped() -> tuple[TrainingMapper, Sample]:
    """Scale 2 and a crop at the end of both axes leave only the lower right quarter."""
    sample = sample_of([[1, 1, 2, 2]] * 2 + [[3, 3, 4, 4]] * 2, classes={1: 1, 2: 2, 3: 3, 4: 4})
    return plain(min_scale=2.0, max_scale=2.0), sample


class AlwaysLast(np.random.Generator):
    """Its uniform numbers are (nearly) one."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64())

    def random(self, *_args, **_options) -> float:
        return 1.0 - 1e-12


def test_segments_that_the_crop_removes_stay_as_empty_targets() -> None:
    mapper, sample = cropped()
    _, target = mapper(sample, AlwaysLast())
    assert target.class_ids.tolist() == [1, 2, 3, 4]
    assert target.masks.flatten(1).sum(1).tolist() == [0, 0, 0, 16]


def test_the_switch_drops_them() -> None:
    _, sample = cropped()
    mapper = plain(min_scale=2.0, max_scale=2.0, keep_empty_targets=False)
    _, target = mapper(sample, AlwaysLast())
    assert target.class_ids.tolist() == [4]
    assert target.masks.shape == (1, 4, 4)


def test_the_configuration_reaches_the_switch_and_leaves_it_as_official() -> None:
    assert build_mapper(load_config()).keep_empty_targets
    keys = ["INPUT.IMAGE_SIZE", "4", "INPUT.MIN_SCALE", "2.0", "INPUT.RANDOM_FLIP", "none"]
    _, sample = cropped()
    for keep, expected in (("True", [1, 2, 3, 4]), ("False", [4])):
        mapper = build_mapper(load_config(None, [*keys, "INPUT.KEEP_EMPTY_TARGETS", keep]))
        assert mapper(sample, AlwaysLast())[1].class_ids.tolist() == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INPUT.FORMAT", "BGR"),
        ("INPUT.RANDOM_FLIP", "vertical"),
        ("INPUT.DATASET_MAPPER_NAME", "coco_instance_lsj"),
    ],
)
def test_a_recipe_that_there_is_not_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} must be .*; got '{value}'"):
        build_mapper(load_config(None, [key, value]))


def test_a_picture_without_segments_has_an_empty_target() -> None:
    _, target = plain()(sample_of([[0] * 4] * 4, classes={}), rng())
    assert target.class_ids.shape == (0,) and target.class_ids.dtype == torch.int64
    assert target.masks.shape == (0, 4, 4)


@pytest.mark.parametrize("size", [(5, 9), (9, 5), (1, 30), (16, 16)])
def test_every_draw_gives_a_full_square(size: tuple[int, int]) -> None:
    sample = sample_of(np.ones(size, dtype=int).tolist(), classes={1: 0})
    mapper = TrainingMapper(crop_size=12)
    for seed in range(30):
        image, target = mapper(sample, rng(seed))
        assert image.shape == (3, 12, 12) and image.dtype == torch.uint8
        assert target.masks.shape == (1, 12, 12)
        assert torch.equal(target.masks[0], image[0] != 128)


def test_the_generator_decides_everything() -> None:
    mapper = TrainingMapper(crop_size=6)
    first, again, other = (mapper(SQUARE, rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1].masks, again[1].masks)
    assert not torch.equal(first[0], other[0])


def test_scales_and_flips_follow_the_stated_ranges() -> None:
    """A 60 x 30 picture in a crop of 100: its height there is 100 s, for s from 0.1 to 1."""
    mapper = TrainingMapper(crop_size=100, max_scale=1.0)
    sample = sample_of([[1] * 15 + [2] * 15] * 60, classes={1: 0, 2: 1})
    heights, flips = [], 0
    for seed in range(300):
        _, target = mapper(sample, rng(seed))
        heights.append(int(target.masks.any(0).any(1).sum()))
        flips += bool(target.masks[1, 0, 0])
    assert 9 <= min(heights) <= 14 and 96 <= max(heights) <= 100
    assert 50 < np.mean(heights) < 60  # uniform: 55
    assert 120 < flips < 180


def test_a_sample_without_panoptic_annotation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"b.jpg has no panoptic annotation"):
        plain()(Sample(torch.zeros(3, 4, 4, dtype=torch.uint8), 1, "b.jpg"), rng())


def test_target_masks_of_void_pixels_are_all_false() -> None:
    target = target_of(SQUARE.panoptic)
    assert not target.masks[:, 2:, 2:].any()


def test_hundreds_of_segments_are_told_apart() -> None:
    ids = torch.randperm(400, generator=torch.Generator().manual_seed(0)).reshape(20, 20) * 40_000
    numbers = [int(value) for value in ids.flatten() if value]
    sample = sample_of(ids.tolist(), classes={number: number % 133 for number in numbers})
    _, target = plain(crop_size=20)(sample, rng())
    assert len(target.class_ids) == 399
    assert target.masks.flatten(1).sum(1).eq(1).all()
    expected = ids[None] == torch.tensor(numbers)[:, None, None]
    assert torch.equal(target.masks, expected)
