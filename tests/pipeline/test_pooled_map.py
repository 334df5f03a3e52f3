"""Bringing masks onto CLIP's map, on a tower whose map is the mean colour of 4 x 4 pixels."""

import torch
from torch import Tensor, nn

from frozenseg.ops.mask_pooling import mask_pool
from frozenseg.pipeline.clip_maps import OUTSIDE, aligned_masks
from frozenseg.pipeline.region_classifiers.pooled_map import PooledMap, stretched_masks
from frozenseg.structures import ClipMap, Frame, InputImage, Proposals
from frozenseg.towers.roles import ClipFeatures


class ColourTower(nn.Module):
    """Counts how often it looks at an image."""

    strides = (4,)
    logit_scale = torch.tensor(20.0)

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def normalize(self, images: list[Tensor], size: tuple[int, int]) -> Tensor:
        batch = torch.zeros(len(images), 3, *size)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = image
        return batch

    def forward(self, images: Tensor) -> ClipFeatures:
        self.calls += 1
        return ClipFeatures((), nn.functional.avg_pool2d(images, 4))

    def embed_regions(self, clip_map: Tensor, mask_logits: Tensor) -> Tensor:
        return mask_pool(clip_map, mask_logits)


def image() -> InputImage:
    """Red on the left, blue on the right: 8 x 12 pixels."""
    pixels = torch.zeros(3, 8, 12)
    pixels[0, :, :8] = pixels[2, :, 8:] = 240
    return InputImage(pixels, pixels.to(torch.uint8), (8, 12))


def left_and_nothing(size: tuple[int, int], columns: int) -> Tensor:
    masks = torch.full((2, *size), -9.0)
    masks[0, :, :columns] = 9.0
    return masks


def test_masks_of_the_maps_own_frame_are_taken_as_they_are() -> None:
    frame = Frame((8, 12), (8, 12))
    masks = left_and_nothing((4, 6), 4)
    clip_map = ClipMap(torch.zeros(1, 3, 2, 3), frame, None)
    assert aligned_masks(Proposals(masks, frame), clip_map) is masks


def test_masks_of_the_image_alone_are_padded_with_outside() -> None:
    masks = torch.full((1, 16, 24), 5.0)  # the whole image at twice its size
    clip_map = ClipMap(torch.zeros(1, 3, 4, 4), Frame((16, 16), (8, 12)), None)
    placed = aligned_masks(Proposals(masks, Frame((16, 24), (16, 24))), clip_map)
    assert placed.shape == (1, 16, 16)
    assert (placed[0, :8, :12] == 5).all()
    assert (placed[0, 8:] == OUTSIDE).all() and (placed[0, :, 12:] == OUTSIDE).all()


def test_stretched_masks_ignore_the_padding_and_take_the_nearest_pixel() -> None:
    masks = torch.arange(16.0).view(1, 4, 4)
    clip_map = ClipMap(torch.zeros(1, 3, 2, 2), Frame((64, 64), (40, 40)), None)
    placed = stretched_masks(Proposals(masks, Frame((4, 4), (4, 4))), clip_map)
    assert torch.equal(placed, torch.tensor([[[0.0, 2.0], [8.0, 10.0]]]))


def test_regions_are_embedded_and_empty_masks_are_not_judged() -> None:
    regions = PooledMap(clip=ColourTower())(
        image(), Proposals(left_and_nothing((8, 12), 8), Frame((8, 12), (8, 12)))
    )
    assert regions.judged.tolist() == [True, False]
    torch.testing.assert_close(regions.embeddings[0], torch.tensor([240.0, 0, 0]))


def test_the_proposers_map_is_reused_only_if_the_same_tower_computed_it() -> None:
    clip, other = ColourTower(), ColourTower()
    frame = Frame((8, 12), (8, 12))
    masks = left_and_nothing((8, 12), 8)
    blue = torch.zeros(1, 3, 2, 3)
    blue[:, 2] = 100.0
    for source, calls, expected in ((clip, 0, [0.0, 0, 100]), (other, 1, [240.0, 0, 0])):
        proposals = Proposals(masks, frame, clip_map=ClipMap(blue, frame, source))
        embeddings = PooledMap(clip=clip)(image(), proposals).embeddings
        assert clip.calls == calls
        torch.testing.assert_close(embeddings[0], torch.tensor(expected))
