"""Crops under masks, encoded by the miniature CLIP that ships with the package."""

import pytest
import torch
from torch import Tensor

import frozenseg
from frozenseg.builders.segmenter import build_segmenter
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.region_classifiers.image_crops import ImageCrops
from frozenseg.structures import Frame, InputImage, Proposals
from frozenseg.towers.loading import load_clip


@pytest.fixture(scope="module")
def crops() -> ImageCrops:
    return ImageCrops(clip=load_clip("shapes", ""), crop_size=64)


def half_red() -> InputImage:
    """Red left of column 20, noise elsewhere: 40 x 60 pixels."""
    pixels = torch.randint(0, 256, (3, 40, 60), generator=torch.Generator().manual_seed(0))
    pixels[:, :, :20] = torch.tensor([200, 10, 10])[:, None, None]
    return InputImage(pixels.float(), pixels.to(torch.uint8), (40, 60))


def masks(*columns: slice) -> Proposals:
    logits = torch.full((len(columns), 40, 60), -8.0)
    for row, part in zip(logits, columns, strict=True):
        row[:, part] = 8.0
    return Proposals(logits, Frame((40, 60), (40, 60)))


def test_a_crop_shows_its_mask_alone(crops: ImageCrops) -> None:
    image = half_red()
    proposals = masks(slice(0, 20), slice(0, 60))
    with torch.inference_mode():
        cut: Tensor = crops._crops(image.pixels, proposals.mask_logits > 0)
    assert cut.shape == (2, 3, 64, 64)
    red = torch.tensor([200.0, 10, 10])[:, None, None].expand(3, 64, 60)
    torch.testing.assert_close(cut[0, :, :, :60], red)  # the last columns mix with the blank side
    assert cut[1].std() > 40, "the whole image is cut out with its noise"


def test_pixels_outside_the_mask_have_clips_mean(crops: ImageCrops) -> None:
    image, proposals = half_red(), masks(slice(0, 20))
    proposals.mask_logits[0, 20:] = -8.0
    proposals.mask_logits[0, 39, 19] = 8.0  # the box reaches the last row
    cut = crops._crops(image.pixels, proposals.mask_logits > 0)[0]
    mean = crops.clip.pixel_mean[:, 0, 0]
    torch.testing.assert_close(cut[:, 40:60, :50].mean(dim=(1, 2)), mean, atol=0.5, rtol=0)


def test_an_empty_mask_is_not_judged_and_no_mask_is_no_error(crops: ImageCrops) -> None:
    regions = crops(half_red(), masks(slice(0, 0), slice(0, 20)))
    assert regions.judged.tolist() == [False, True]
    assert regions.embeddings[0].abs().sum() == 0 < regions.embeddings[1].abs().sum()
    assert crops(half_red(), masks()).embeddings.shape == (0, crops.clip.embed_dim)


@pytest.mark.slow
def test_the_shipped_model_segments_with_crops_in_place_of_the_pooled_map() -> None:
    """One key exchanges the region classifier; most pixels keep their class."""
    keys = ["MODEL.PIPELINE.REGION_CLASSIFIER", "image_crops"]
    cfg = frozenseg.model_config("shapes", device="cpu", overrides=keys)
    words, sample = shapes_vocabulary("val"), ShapesDataset("val")[1]
    found = build_segmenter(cfg)(sample.image, words, task="semantic").semantic
    right = torch.from_numpy(found) == sample.semantic
    assert size_of(right) == size_of(sample.semantic)
    assert right.float().mean() > 0.5
