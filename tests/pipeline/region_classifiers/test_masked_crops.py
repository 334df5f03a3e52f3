"""Crops worked out by hand, and images with no valid mask or a single one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frozenseg.pipeline.region_classifiers.masked_crops import MaskedCrops
from frozenseg.structures import Frame, InputImage, Proposals
from frozenseg.towers.clip import PIXEL_MEAN, PIXEL_STD

OUTSIDE, INSIDE = -8.0, 8.0
SIZE = (24, 36)


def image_of(value: float = 255.0) -> InputImage:
    pixels = torch.full((3, *SIZE), value)
    return InputImage(pixels, pixels.to(torch.uint8), SIZE)


def proposals_of(*boxes: tuple[int, int, int, int]) -> Proposals:
    """One mask per box; an empty box gives a mask without a pixel."""
    logits = torch.full((len(boxes), *SIZE), OUTSIDE)
    for mask, (x0, y0, x1, y1) in zip(logits, boxes, strict=True):
        mask[y0:y1, x0:x1] = INSIDE
    return Proposals(logits, Frame(SIZE, SIZE))


EMPTY = (0, 0, 0, 0)


def test_boxes_are_tight_and_exclude_their_right_and_bottom(tiny_vit) -> None:
    crops = MaskedCrops(clip=tiny_vit()).crop(
        image_of(), proposals_of((4, 6, 5, 7), EMPTY, (0, 0, 36, 24))
    )
    assert crops.valid.tolist() == [True, False, True]
    assert crops.boxes.tolist() == [[4, 6, 5, 7], [0, 0, 36, 24]]
    assert crops.pixels.shape == (2, 3, 12, 12)


def test_a_pixel_at_the_threshold_is_outside(tiny_vit) -> None:
    proposals = proposals_of(EMPTY)
    proposals.mask_logits[0, 2, 3] = 0.0  # probability 0.5
    for threshold, expected in ((0.5, [False]), (0.4, [True])):
        classifier = MaskedCrops(clip=tiny_vit(), threshold=threshold)
        assert classifier.crop(image_of(), proposals).valid.tolist() == expected


def test_the_background_has_clips_mean_colour(tiny_vit) -> None:
    """A mask of two halves: white in the corners, normalised 0 in between."""
    proposals = proposals_of((0, 0, 12, 12))
    proposals.mask_logits[0, 3:9, 3:9] = OUTSIDE
    crops = MaskedCrops(clip=tiny_vit()).crop(image_of(), proposals)
    white = torch.tensor([(255 - m) / s for m, s in zip(PIXEL_MEAN, PIXEL_STD, strict=True)])
    torch.testing.assert_close(crops.pixels[0, :, 0, 0], white)
    assert torch.equal(crops.pixels[0, :, 4:8, 4:8], torch.zeros(3, 4, 4))
    assert not crops.masks[0, 3:9, 3:9].any()
    assert crops.masks[0].sum() == 12 * 12 - 6 * 6


def test_the_aspect_ratio_is_not_kept(tiny_vit) -> None:
    """A wide box with its left half in the mask fills the left half of the square."""
    proposals = proposals_of((0, 0, 12, 2))
    proposals.mask_logits[0, 2, 23] = INSIDE
    masks = MaskedCrops(clip=tiny_vit()).crop(image_of(), proposals).masks[0]
    assert masks[:8, :6].all()
    assert masks.sum() == 8 * 6  # the pixel at the far end is lost to the nearest neighbour
    proposals.mask_logits[0, 2, 22] = INSIDE
    assert MaskedCrops(clip=tiny_vit()).crop(image_of(), proposals).masks[0, 8:, 11].all()


def test_padding_is_cut_off_before_masks_are_read(tiny_vit) -> None:
    """Masks at a quarter of 32 x 40 padded pixels: what lies in the padding does not count."""
    logits = torch.full((2, 8, 10), OUTSIDE)
    logits[0, 7:] = INSIDE  # padding rows alone
    logits[1, :2] = INSIDE
    proposals = Proposals(logits, Frame((32, 40), SIZE))
    crops = MaskedCrops(clip=tiny_vit()).crop(image_of(), proposals)
    assert crops.valid.tolist() == [False, True]
    x0, y0, x1, y1 = crops.boxes[0].tolist()
    assert (x0, y0, x1) == (0, 0, 36)
    assert y1 in (8, 9)  # bilinear, threshold 0.4


def test_masks_over_the_original_are_brought_to_the_resized_image(tiny_vit) -> None:
    logits = torch.full((1, 48, 72), OUTSIDE)
    logits[:, :, 36:] = INSIDE
    proposals = Proposals(logits, Frame((48, 72), (48, 72)))
    assert MaskedCrops(clip=tiny_vit()).crop(image_of(), proposals).boxes.tolist() == [
        [18, 0, 36, 24]
    ]


class TestEmbeddings:
    @pytest.fixture
    def image(self) -> InputImage:
        return image_of()._replace(pixels=255 * torch.rand(3, *SIZE))

    def test_an_image_without_a_valid_mask_has_no_judged_region(self, tiny_vit, image) -> None:
        regions = MaskedCrops(clip=tiny_vit())(image, proposals_of(EMPTY, EMPTY))
        assert regions.judged.tolist() == [False, False]
        assert torch.equal(regions.embeddings, torch.zeros(2, 8))

    def test_a_single_valid_mask_is_embedded_as_among_others(self, tiny_vit, image) -> None:
        classifier = MaskedCrops(clip=tiny_vit())
        alone = classifier(image, proposals_of((2, 3, 20, 15)))
        among = classifier(image, proposals_of(EMPTY, (2, 3, 20, 15), (0, 0, 9, 9)))
        assert alone.judged.tolist() == [True]
        assert among.judged.tolist() == [False, True, True]
        torch.testing.assert_close(alone.embeddings[0], among.embeddings[1])

    def test_batches_change_nothing(self, tiny_vit, image) -> None:
        proposals = proposals_of(*((x, x, x + 9, x + 5) for x in range(5)))
        whole = MaskedCrops(clip=tiny_vit())(image, proposals)
        split = MaskedCrops(clip=tiny_vit(), batch_size=2)(image, proposals)
        torch.testing.assert_close(split.embeddings, whole.embeddings)

    def test_prompts_act_on_blank_patches_and_can_be_switched_off(self, tiny_vit, image) -> None:
        clip, proposals = tiny_vit(), proposals_of((0, 0, 18, 24))
        proposals.mask_logits[0, 6:, 2:] = OUTSIDE
        plain = MaskedCrops(clip=clip, use_prompts=False)
        before = MaskedCrops(clip=clip)(image, proposals).embeddings
        assert not torch.allclose(before, plain(image, proposals).embeddings)
        crops = plain.crop(image, proposals)
        expected = clip.model.encode_image(crops.pixels)
        torch.testing.assert_close(plain.embed(crops), expected)

    def test_the_temperature_is_the_published_constant(self, tiny_vit, image) -> None:
        assert MaskedCrops(clip=tiny_vit())(image, proposals_of(EMPTY)).logit_scale == 100

    def test_bfloat16_is_near_float32(self, tiny_vit, image) -> None:
        def embedded(precision: str) -> Tensor:
            classifier = MaskedCrops(clip=tiny_vit(), precision=precision)
            regions = classifier(image, proposals_of((2, 3, 20, 15), (0, 0, 9, 9)))
            return F.normalize(regions.embeddings, dim=-1)

        exact, rounded = embedded("float32"), embedded("bfloat16")
        assert not torch.equal(exact, rounded)
        assert (exact * rounded).sum(dim=-1).min() > 0.999

    def test_float32_stays_float32_under_autocast(self, tiny_vit, image) -> None:
        classifier, proposals = MaskedCrops(clip=tiny_vit()), proposals_of((2, 3, 20, 15))
        exact = classifier(image, proposals).embeddings
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(classifier(image, proposals).embeddings, exact)


def test_trained_weights_are_the_towers(tiny_vit) -> None:
    classifier, other = MaskedCrops(clip=tiny_vit()), MaskedCrops(clip=tiny_vit(seed=1))
    assert classifier.trainable_state() == {}
    classifier.clip.unfreeze("prompts")
    state = classifier.trainable_state()
    assert set(state) == {"clip.mask_prompts", "clip.model.logit_scale"}
    other.load_trainable_state(state, source="run/")
    assert torch.equal(other.clip.mask_prompts, classifier.clip.mask_prompts)
    other.load_trainable_state({}, source="run/")
