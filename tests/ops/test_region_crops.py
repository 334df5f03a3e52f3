"""Crops of many regions in one call, against PyTorch's resizing of one region at a time."""

import pytest
import torch
import torch.nn.functional as F

from frozenseg.ops.region_crops import expand_boxes, mask_crops, masked_crops

BOXES = [[3, 2, 17, 9], [0, 0, 20, 12], [19, 11, 20, 12], [5, 1, 7, 12], [0, 4, 20, 5]]


@pytest.fixture
def regions() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    masks = torch.rand(len(BOXES), 12, 20) > 0.3
    return torch.randn(3, 12, 20), masks, torch.tensor(BOXES)


@pytest.mark.parametrize("size", [(8, 8), (15, 6)])
def test_crops_equal_bicubic_resizing_of_each_region(regions, size) -> None:
    pixels, masks, boxes = regions
    crops = masked_crops(pixels, masks, boxes, size)
    for crop, mask, (x0, y0, x1, y1) in zip(crops, masks, boxes.tolist(), strict=True):
        region = (pixels * mask)[None, :, y0:y1, x0:x1]
        expected = F.interpolate(region, size, mode="bicubic", align_corners=False)[0]
        torch.testing.assert_close(crop, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("size", [(8, 8), (15, 6), (224, 224)])
def test_region_masks_equal_nearest_resizing_of_each_mask(regions, size) -> None:
    _, masks, boxes = regions
    resized = mask_crops(masks, boxes, size)
    for found, mask, (x0, y0, x1, y1) in zip(resized, masks, boxes.tolist(), strict=True):
        expected = F.interpolate(mask[None, None, y0:y1, x0:x1].float(), size, mode="nearest")
        assert torch.equal(found, expected[0, 0] > 0)


def test_a_crop_repeats_its_own_border_not_what_lies_beside_it() -> None:
    """A box of one colour stays that colour, whatever surrounds it."""
    pixels = torch.full((1, 6, 6), 100.0)
    pixels[:, 2:4, 2:4] = 7.0
    everything = torch.ones(1, 6, 6, dtype=torch.bool)
    crop = masked_crops(pixels, everything, torch.tensor([[2, 2, 4, 4]]), (5, 5))
    torch.testing.assert_close(crop, torch.full((1, 1, 5, 5), 7.0))


def test_no_region_gives_no_crop() -> None:
    none = torch.zeros(0, 4, 4, dtype=torch.bool), torch.zeros(0, 4, dtype=torch.long)
    assert masked_crops(torch.ones(3, 4, 4), *none, (2, 2)).shape == (0, 3, 2, 2)
    assert mask_crops(*none, (2, 2)).shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("box", "ratio", "expected"),
    [
        ([2, 4, 6, 8], 1.0, [2, 4, 6, 8]),
        ([2, 4, 6, 8], 1.5, [1, 3, 7, 9]),
        ([3, 4, 6, 8], 1.5, [2, 3, 6, 9]),  # 2.25 and 6.75 lose their fractions
        ([0, 4, 4, 8], 2.0, [0, 2, 6, 10]),  # clipped at the left
        ([16, 8, 20, 12], 3.0, [12, 4, 20, 12]),  # and at the right and bottom
        ([2, 4, 6, 8], 0.5, [3, 5, 5, 7]),
    ],
)
def test_boxes_grow_about_their_centre(box, ratio, expected) -> None:
    assert expand_boxes(torch.tensor([box]), ratio, (12, 20)).tolist() == [expected]
