"""SAM's masks with CLIP's classes and nothing trained, on a tower that sees colours."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from frozenseg.builders.options import RunOptions
from frozenseg.builders.segmenter import build_segmenter
from frozenseg.cli.native_run import run
from frozenseg.config import load_config
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.errors import UserError
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.ops.mask_pooling import mask_pool
from frozenseg.pipeline.fusion.clip_alone import ClipAlone
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.proposers.sam_points import SamPoints
from frozenseg.pipeline.region_classifiers.pooled_map import PooledMap, stretched_masks
from frozenseg.structures import InputImage, Result
from frozenseg.vocabulary.text_classifier import TextClassifier

CONFIG = "ablations/shapes/table4_1_only_sam.yaml"
RED, GREEN, BLUE = torch.eye(3)


class ColourTower(nn.Module):
    """Sees the mean colour of each cell of 4 x 4 pixels."""

    embed_dim = 3
    strides = (4, 8)
    logit_scale = torch.tensor(20.0)

    def normalize(self, images: list[Tensor], size: tuple[int, int]) -> Tensor:
        batch = torch.zeros(len(images), 3, *size)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = image
        return batch

    def forward(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(clip_map=nn.functional.avg_pool2d(images, 4))

    def embed_regions(self, clip_map: Tensor, mask_logits: Tensor) -> Tensor:
        return mask_pool(clip_map, mask_logits)


class Given:
    """SAM's masks of an image, as they are given."""

    def __init__(self, *masks: Tensor) -> None:
        self._masks = torch.stack(masks) if masks else torch.zeros(0, 8, 16)

    def __call__(self, image: Tensor) -> "Given":
        return self

    def logits(self) -> Tensor:
        return self._masks


def predictor(*masks: Tensor) -> Predictor:
    clip = ColourTower()
    model = SegmentationModel(
        proposer=SamPoints(source=Given(*masks), size_divisibility=8),
        region_classifier=PooledMap(clip=clip, place_masks=stretched_masks),
        text_encoder=clip,
        fusion=ClipAlone(),
    )
    return Predictor(
        model=model,
        text=TextClassifier(torch.stack([RED, GREEN, BLUE]), torch.arange(3)),
        is_thing=torch.tensor([True] * 3),
        seen=torch.tensor([False] * 3),
        settings=OutputSettings(panoptic=False, instance=False, class_maps=True),
    )


def segment(predict: Predictor, image: Tensor, size: tuple[int, int] = (8, 16)) -> Result:
    return predict([InputImage(image, image.to(torch.uint8), size)])[0]


def halves() -> Tensor:
    """Red on the left, blue on the right: 8 x 16 pixels."""
    image = torch.zeros(3, 8, 16)
    image[0, :, :8] = image[2, :, 8:] = 255
    return image


def over(columns: slice, strength: float = 20.0) -> Tensor:
    logits = torch.full((8, 16), -strength)
    logits[:, columns] = strength
    return logits


def test_each_mask_has_the_class_that_clip_sees_under_it():
    result = segment(predictor(over(slice(0, 8)), over(slice(8, 16))), halves())
    classes = result.semantic
    assert (classes[:, :8] == 0).all() and (classes[:, 8:] == 2).all()
    assert result.class_maps[0, 0, 0] == pytest.approx(1.0, abs=1e-3)
    assert result.panoptic is None and result.instances is None


def test_probabilities_leave_no_room_for_void():
    result = segment(predictor(over(slice(0, 16))), halves())
    torch.testing.assert_close(result.class_maps.sum(dim=0), torch.ones(8, 16))


def test_a_pixel_that_no_mask_covers_takes_the_faintest_one():
    result = segment(predictor(over(slice(0, 8), strength=5.0)), halves())
    assert (result.semantic == 0).all()


def test_without_a_mask_that_clip_sees_all_maps_are_zero():
    for masks in ((), (torch.full((8, 16), -1.0),)):
        assert not segment(predictor(*masks), halves()).class_maps.any()


def test_results_come_at_the_size_that_is_asked_for():
    found = segment(predictor(over(slice(0, 8)), over(slice(8, 16))), halves(), (4, 32)).semantic
    assert found.shape == (4, 32)
    assert (found[:, :15] == 0).all() and (found[:, 17:] == 2).all()


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    quick = {"POINTS_PER_SIDE": "6", "CACHE": str(tmp_path / "masks")}
    keys = {f"MODEL.MASK_ENSEMBLE.{key}": value for key, value in quick.items()}
    return [part for pair in (keys | {"MODEL.DEVICE": "cpu"}).items() for part in pair]


def test_the_miniature_world_is_segmented_without_a_trained_head(overrides: list[str]):
    segmenter = build_segmenter(load_config(CONFIG, overrides))
    sample = ShapesDataset("val")[1]
    found = segmenter(sample.image, shapes_vocabulary("val"), task="semantic")
    assert (torch.from_numpy(found.semantic) == sample.semantic).float().mean() > 0.3


def test_other_results_than_semantic_ones_are_refused(overrides: list[str]):
    segmenter = build_segmenter(load_config(CONFIG, overrides))
    with pytest.raises(UserError, match="semantic results only"):
        segmenter(ShapesDataset("val")[1].image, "red circle; grass [stuff]", task="panoptic")


def test_an_evaluation_asks_for_no_weights(
    tmp_path: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("frozenseg.data.shapes.dataset._SIZES", {"train": 2, "val": 2})
    output = ["OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "0"]
    assert run(load_config(CONFIG, [*overrides, *output]), RunOptions(eval_only=True)) == 0
    metrics = json.loads((tmp_path / "inference" / "shapes_val" / "metrics.json").read_text())
    assert metrics["semantic/mIoU"] > 0
