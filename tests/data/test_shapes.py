"""The shapes world: what its scenes promise to those who train and measure on them."""

import numpy as np
import pytest
import torch

from frozenseg.data.shapes import ShapesDataset, all_names, shapes_vocabulary
from frozenseg.data.shapes.outlines import signed_distance
from frozenseg.data.shapes.scene import MIN_VISIBLE_PX, Painter
from frozenseg.data.shapes.textures import texture_tile
from frozenseg.data.shapes.windows import render_window
from frozenseg.data.shapes.words import (
    ALL_THINGS,
    COLORS,
    PATTERNS,
    SEEN_SHAPES,
    SEEN_STUFF,
    SEEN_THINGS,
    SHAPES,
    STUFF,
    UNSEEN_STUFF,
    UNSEEN_THINGS,
    Thing,
)
from frozenseg.structures import Sample


@pytest.fixture(scope="module")
def val_scenes() -> list[Sample]:
    return list(ShapesDataset("val"))


def names_in(sample: Sample, names: tuple[str, ...]) -> set[str]:
    return {names[segment.class_id] for segment in sample.panoptic.segments}


def test_the_same_index_and_seed_give_the_same_scene() -> None:
    first, second = ShapesDataset("train", seed=3)[5], ShapesDataset("train", seed=3)[5]
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.panoptic.ids, second.panoptic.ids)
    assert first.panoptic.segments == second.panoptic.segments


def test_index_seed_and_split_each_change_the_scene() -> None:
    scene = ShapesDataset("train")[5].image
    for other in (
        ShapesDataset("train")[6],
        ShapesDataset("train", seed=1)[5],
        ShapesDataset("val")[5],
    ):
        assert not torch.equal(scene, other.image)


def test_segments_partition_the_image(val_scenes: list[Sample]) -> None:
    for sample in val_scenes[:40]:
        ids = sample.panoptic.ids
        assert sample.image.shape == (3, 256, 256) and sample.image.dtype == torch.uint8
        assert ids.shape == (256, 256) and ids.dtype == torch.int32
        stated = {segment.id: segment.area for segment in sample.panoptic.segments}
        present, areas = ids.unique(return_counts=True)
        assert stated == dict(zip(present.tolist(), areas.tolist(), strict=True))
        assert 0 not in stated
        assert min(stated.values()) >= MIN_VISIBLE_PX


def test_semantic_map_agrees_with_the_panoptic_map(val_scenes: list[Sample]) -> None:
    for sample in val_scenes[:40]:
        for segment in sample.panoptic.segments:
            classes = sample.semantic[sample.panoptic.ids == segment.id]
            assert (classes == segment.class_id).all()


def test_a_ground_is_one_segment_and_things_may_repeat(val_scenes: list[Sample]) -> None:
    repeated = 0
    for sample in val_scenes:
        segments = sample.panoptic.segments
        stuff = [segment.class_id for segment in segments if not segment.is_thing]
        things = [segment.class_id for segment in segments if segment.is_thing]
        assert 2 <= len(stuff) == len(set(stuff)) <= 3
        assert 2 <= len(things) <= 7
        repeated += len(things) > len(set(things))
    assert repeated > 20


def test_vocabulary_order_matches_class_ids() -> None:
    seen, everything = shapes_vocabulary("train"), shapes_vocabulary("val")
    assert seen.names == (*(thing.name for thing in SEEN_THINGS), *SEEN_STUFF)
    assert sum(seen.is_thing) == 40 and len(seen) == 48
    assert sum(everything.is_thing) == 56 and len(everything) == 68
    assert set(everything.names) - set(seen.names) == {
        *(thing.name for thing in UNSEEN_THINGS),
        *UNSEEN_STUFF,
    }
    assert everything.seen_by(seen) == tuple(name in seen.names for name in everything.names)


def test_segment_kinds_match_the_vocabulary(val_scenes: list[Sample]) -> None:
    is_thing = shapes_vocabulary("val").is_thing
    for sample in val_scenes:
        for segment in sample.panoptic.segments:
            assert segment.is_thing == is_thing[segment.class_id]


def test_training_never_shows_an_unseen_class() -> None:
    names = shapes_vocabulary("train").names
    unseen = {thing.name for thing in UNSEEN_THINGS} | set(UNSEEN_STUFF)
    assert not unseen & set(names)
    shown = set().union(*(names_in(sample, names) for sample in ShapesDataset("train", size=60)))
    assert shown == set(names)


def test_unseen_things_are_new_shapes_or_new_compositions() -> None:
    assert not set(SEEN_THINGS) & set(UNSEEN_THINGS)
    assert {thing.shape for thing in SEEN_THINGS} == set(SEEN_SHAPES)
    assert {thing.color for thing in SEEN_THINGS} == set(COLORS)
    assert {thing.pattern for thing in SEEN_THINGS} == set(PATTERNS)
    assert {thing.shape for thing in UNSEEN_THINGS} > {"hexagon", "arrow"}


def test_every_validation_class_has_ten_segments(val_scenes: list[Sample]) -> None:
    counts = np.zeros(68, dtype=int)
    for sample in val_scenes:
        np.add.at(counts, [segment.class_id for segment in sample.panoptic.segments], 1)
    assert counts.min() >= 10


def test_names_read_pattern_colour_shape() -> None:
    assert Thing("star", "red", "striped").name == "striped red star"
    assert Thing("circle", "blue", "plain").name == "blue circle"
    assert len(set(all_names())) == 10 * 8 * 3 + 12


def test_index_outside_the_data_set_is_an_error() -> None:
    scenes = ShapesDataset("val", size=2)
    with pytest.raises(IndexError, match="scene 2 of 2"):
        scenes[2]
    assert len(list(scenes)) == 2


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_enclose_a_sensible_part_of_their_square(shape: str) -> None:
    y, x = np.mgrid[-1.2:1.2:121j, -1.2:1.2:121j].astype(np.float32)
    inside = signed_distance(shape, x, y) < 0
    share = inside.sum() * 0.02**2  # in squared radii; a full circle of radius 1 has 3.14
    assert 0.8 < share < 3.0
    assert not inside[[0, -1]].any() and not inside[:, [0, -1]].any()


def test_symmetric_shapes_are_symmetric_and_a_ring_has_a_hole() -> None:
    y, x = np.mgrid[-1.2:1.2:121j, -1.2:1.2:121j].astype(np.float32)
    for shape in ("circle", "square", "triangle", "star", "cross", "ring", "heart", "hexagon"):
        inside = signed_distance(shape, x, y) < -0.01
        assert (inside != inside[:, ::-1]).mean() < 0.002, shape
    middle = np.zeros((1, 1), dtype=np.float32)
    assert signed_distance("ring", middle, middle) > 0
    assert signed_distance("circle", middle, middle) < 0


def test_a_thing_is_painted_in_its_colour() -> None:
    painter = Painter(rng=np.random.default_rng(0), size=96, stuff=("snow",))
    assert painter.place_at(Thing("circle", "red", "plain"), center=(48, 48), radius=30)
    red, green, blue = painter.finish().image[48, 48].astype(int)
    assert red > 150 and green < 100 and blue < 100


def test_a_thing_that_would_hide_another_finds_no_place() -> None:
    painter = Painter(rng=np.random.default_rng(0), size=96, stuff=("sand",))
    assert painter.place_at(Thing("circle", "red", "plain"), center=(48, 48), radius=24)
    assert not painter.place_at(Thing("square", "blue", "plain"), center=(48, 48), radius=40)
    assert painter.finish().things == (Thing("circle", "red", "plain"),)


def test_grounds_differ_in_colour_or_texture() -> None:
    tiles = [texture_tile(name)[:128, :128].reshape(-1, 3).astype(float) for name in STUFF]
    looks = np.array([(*tile.mean(0), *(2 * tile.std(0))) for tile in tiles])
    distances = np.linalg.norm(looks[:, None] - looks[None], axis=-1)
    assert distances[~np.eye(len(STUFF), dtype=bool)].min() > 25


def test_windows_have_the_size_asked_for_and_repeat() -> None:
    for subject in (ALL_THINGS[7], "lava"):
        windows = [render_window(np.random.default_rng(4), subject, size=80) for _ in range(2)]
        assert windows[0].shape == (80, 80, 3)
        assert (windows[0] == windows[1]).all()
