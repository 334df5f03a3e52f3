import importlib.util
from functools import cache

import numpy as np
import pytest
import torch
from scipy import ndimage
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.utils.amg import remove_small_regions
from torch import Tensor

from frozenseg.data.shapes import ShapesDataset
from frozenseg.sam_masks.generator import (
    MaskSettings,
    SamMaskGenerator,
    SamMasks,
    enlarged,
    without_small_regions,
)
from frozenseg.towers.loading import load_sam

LOOSE = {"iou_threshold": 0.3, "stability_threshold": 0.3, "min_region_px": 30}


@cache
def tower():
    return load_sam("shapes")


@cache
def image() -> Tensor:
    """Wider than high, so that SAM's square shows the image in its upper part only."""
    return ShapesDataset("val")[1].image[:, :170, 6:]


@cache
def generate(**settings: float) -> SamMasks:
    chosen = MaskSettings(**({"points_per_side": 5} | LOOSE | settings))
    return SamMaskGenerator(tower(), settings=chosen, points_per_batch=16)(image())


def test_enlarged_logits_are_those_of_sam_itself():
    low_res = torch.randn(3, 64, 64)
    expected = tower().model.postprocess_masks(low_res[None], (174, 256), (170, 250))[0]
    cropped = low_res[:, : -(-174 // 4) + 1]
    assert torch.equal(enlarged(cropped, (170, 250), 256, 4), expected)


NEEDS_OPENCV = pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None, reason="segment_anything cleans masks with OpenCV"
)


@NEEDS_OPENCV
def test_masks_are_those_of_segment_anything():
    theirs = SamAutomaticMaskGenerator(
        tower().model,
        points_per_side=5,
        points_per_batch=16,
        pred_iou_thresh=0.3,
        stability_score_thresh=0.3,
        min_mask_region_area=30,
    ).generate(image().permute(1, 2, 0).numpy())
    theirs.sort(key=lambda each: -each["area"])
    ours = generate()
    assert len(ours) > 5
    assert ours.areas.tolist() == [each["area"] for each in theirs]
    assert ours.predicted_iou.tolist() == pytest.approx([e["predicted_iou"] for e in theirs])
    assert ours.stability.tolist() == pytest.approx([e["stability_score"] for e in theirs])
    corners = ours.boxes - torch.tensor([0, 0, 1, 1])  # theirs end at the last pixel
    expected = [(x, y, x + w, y + h) for x, y, w, h in (each["bbox"] for each in theirs)]
    assert [tuple(box) for box in corners.tolist()] == expected
    for mask, each in zip(ours.logits() > 0, theirs, strict=True):
        cleaned = without_small_regions(mask.numpy(), 30)
        assert np.array_equal(cleaned, each["segmentation"])


def test_every_threshold_holds_and_the_largest_masks_stay():
    strict = generate(iou_threshold=0.5, stability_threshold=0.6)
    assert 0 < len(strict) < len(generate())
    assert (strict.predicted_iou > 0.5).all() and (strict.stability >= 0.6).all()
    few = generate(max_masks=3)
    assert few.areas.tolist() == generate().areas.tolist()[:3]
    assert few.areas.tolist() == sorted(few.areas.tolist(), reverse=True)


def test_no_mask_passes_an_impossible_threshold():
    masks = generate(iou_threshold=2.0)
    assert len(masks) == 0
    assert masks.logits().shape == (0, 170, 250)


def test_the_number_of_prompts_at_once_does_not_matter():
    settings = MaskSettings(points_per_side=5, **LOOSE)
    one = SamMaskGenerator(tower(), settings=settings, points_per_batch=5)(image())
    other = SamMaskGenerator(tower(), settings=settings, points_per_batch=25)(image())
    assert one.areas.tolist() == other.areas.tolist()
    assert torch.allclose(one.low_res_logits, other.low_res_logits, atol=1e-4)


@NEEDS_OPENCV
@pytest.mark.parametrize("seed", range(20))
def test_cleaning_is_that_of_segment_anything(seed: int):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((40, 55)), rng.uniform(0.5, 3))
    mask = noise > np.quantile(noise, rng.uniform(0.3, 0.95))
    expected, _ = remove_small_regions(mask, 9, "holes")
    expected, _ = remove_small_regions(expected, 9, "islands")
    assert np.array_equal(without_small_regions(mask, 9), expected)


def test_small_holes_are_filled_and_small_islands_go():
    mask = np.zeros((12, 12), dtype=bool)
    mask[1:8, 1:8] = True
    mask[3, 3] = False  # a hole of one pixel
    mask[10, 10:12] = True  # an island of two
    expected = np.zeros_like(mask)
    expected[1:8, 1:8] = True
    assert np.array_equal(without_small_regions(mask, 3), expected)
    assert without_small_regions(expected, 3) is expected


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.eye(5, dtype=bool)
    assert without_small_regions(mask, 5) is mask


def test_of_small_islands_alone_the_largest_stays():
    mask = np.zeros((5, 30), dtype=bool)
    mask[2, :3] = mask[2, 10:15] = True
    expected = np.zeros_like(mask)
    expected[2, 10:15] = True
    assert np.array_equal(without_small_regions(mask, 20), expected)


def test_an_empty_mask_stays_empty():
    assert not without_small_regions(np.zeros((9, 9), dtype=bool), 4).any()


def test_red_is_red_for_sam():
    """SAM sees RGB: exchanging red and blue gives other masks."""
    settings = MaskSettings(points_per_side=4, **LOOSE)
    generator = SamMaskGenerator(tower(), settings=settings)
    pixels = image().permute(1, 2, 0).numpy()
    predictor = SamPredictor(tower().model)
    predictor.set_image(pixels, "RGB")
    assert torch.allclose(generator._embed(image()), predictor.get_image_embedding(), atol=1e-5)
    assert not torch.allclose(
        generator._embed(image().flip(0)), predictor.get_image_embedding(), atol=1e-2
    )
