"""What MaskFormer's training sees of an image with a label map."""

import numpy as np
import pytest
import torch

from frozenseg.data.color_jitter import ColorJitter
from frozenseg.data.semantic_mapper import SemanticMapper, semantic_target, shortest_edge_size
from frozenseg.errors import UserError
from frozenseg.structures import Sample


def sample_of(labels: torch.Tensor) -> Sample:
    """An image whose channels show the labels."""
    image = labels.to(torch.uint8).expand(3, -1, -1).contiguous()
    return Sample(image, image_id=1, file_name="a.jpg", semantic=labels.long())


def plain(**changes) -> SemanticMapper:
    settings = {"crop_size": 4, "short_sides": (4,), "flip": 0.0, "color_jitter": None}
    return SemanticMapper(**(settings | changes))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


SQUARE = sample_of(torch.tensor([[7, 7, 2, 2], [7, 7, 2, 2], [255] * 4, [2, 7, 7, 7]]))


def test_there_is_one_target_per_class_and_none_for_unlabelled_pixels() -> None:
    image, (class_ids, masks) = plain()(SQUARE, rng())
    assert torch.equal(image, SQUARE.image)
    assert class_ids.tolist() == [2, 7] and class_ids.dtype == torch.int64
    assert masks.dtype == torch.bool
    assert torch.equal(masks, torch.stack([SQUARE.semantic == 2, SQUARE.semantic == 7]))


def test_an_unlabelled_image_has_no_target() -> None:
    class_ids, masks = semantic_target(torch.full((3, 5), 255), ignore_label=255)
    assert class_ids.shape == (0,) and masks.shape == (0, 3, 5)


def test_padding_is_grey_and_background_of_every_target() -> None:
    sample = sample_of(torch.tensor([[1, 1], [3, 3], [3, 3]]))
    image, (class_ids, masks) = plain(short_sides=(2,), max_size=99)(sample, rng())
    assert image.shape == (3, 4, 4) and masks.shape == (2, 4, 4)
    assert (image[:, 3:] == 128).all() and (image[:, :, 2:] == 128).all()
    assert torch.equal(image[:, :3, :2], sample.image)
    assert class_ids.tolist() == [1, 3]
    assert not masks[:, 3:].any() and not masks[:, :, 2:].any()


def test_image_and_targets_flip_together() -> None:
    image, target = plain(flip=1.0)(SQUARE, rng())
    assert torch.equal(image, SQUARE.image.flip(-1))
    assert torch.equal(target.masks, plain()(SQUARE, rng())[1].masks.flip(-1))


def test_crops_lie_anywhere_and_show_image_and_labels_of_one_place() -> None:
    sample = sample_of(torch.arange(64).reshape(8, 8))
    corners = set()
    for seed in range(200):
        image, (class_ids, masks) = plain(short_sides=(8,), max_size=99)(sample, rng(seed))
        assert class_ids.tolist() == sorted(image[0].flatten().tolist())
        assert torch.equal((masks * class_ids[:, None, None]).sum(0), image[0].long())
        corners.add(divmod(int(image[0, 0, 0]), 8))
    assert corners == {(row, column) for row in range(5) for column in range(5)}


def test_the_short_side_is_drawn_from_320_to_1280_by_64() -> None:
    mapper = SemanticMapper()
    assert mapper.short_sides == (
        *(320, 384, 448, 512, 576, 640, 704, 768),
        *(832, 896, 960, 1024, 1088, 1152, 1216, 1280),
    )
    assert (mapper.crop_size, mapper.max_size, mapper.flip) == (640, 2560, 0.5)
    assert mapper.color_jitter == ColorJitter()
    seen = set()
    for seed in range(60):
        image, _ = plain(short_sides=(2, 4), crop_size=6)(SQUARE, rng(seed))
        seen.add(int((image[0] != 128).any(dim=0).sum()))
    assert seen == {2, 4}


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (320, 427)), ((640, 480), (427, 320)), ((100, 1000), (256, 2560))],
)
def test_the_long_side_is_limited(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shortest_edge_size(size, 320, 2560) == expected


def test_a_sample_is_determined_by_the_generator() -> None:
    sample = sample_of(torch.randint(5, (50, 70), generator=torch.Generator().manual_seed(0)))
    mapper = SemanticMapper(crop_size=32, short_sides=(40, 60))
    (first, target), (again, same) = (mapper(sample, rng(3)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(target.masks, same.masks)
    assert not torch.equal(first, mapper(sample, rng(4))[0])


def test_a_sample_without_a_label_map_is_refused() -> None:
    bare = Sample(SQUARE.image, image_id=1, file_name="a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg has no semantic annotation to train on"):
        plain()(bare, rng())
