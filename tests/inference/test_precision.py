"""MODEL.PRECISION: both image encoders in a type of 16 bits, the decoder in float32."""

from typing import cast

import pytest
import torch
from torch import Tensor

import frozenseg
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.inference.predictor import Predictor
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.ops.maps import size_of
from frozenseg.structures import InputImage

SCENES = 4


def predictor(precision: str) -> Predictor:
    segmenter = frozenseg.load("shapes", device="cpu", overrides=["MODEL.PRECISION", precision])
    return cast(Predictor, segmenter.build_predictor(shapes_vocabulary("val")))


def class_maps(predict: Predictor) -> Tensor:
    """(N, H, W) panoptic classes, -1 where there is no segment."""
    maps = []
    for index in range(SCENES):
        pixels = ShapesDataset("val")[index].image
        (result,) = predict([InputImage(pixels.float(), pixels, size_of(pixels))])
        assert result.panoptic is not None
        classes = torch.tensor([-1, *(each.class_id for each in result.panoptic.segments)])
        maps.append(classes[result.panoptic.ids.long()])
    return torch.stack(maps)


@pytest.fixture(scope="module")
def expected() -> Tensor:
    return class_maps(predictor("float32"))


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_16_bits_keep_the_panoptic_classes(expected, precision, dtype) -> None:
    predict = predictor(precision)
    types = []
    sam = cast(FrozenSeg, predict.model.proposer).sam
    assert sam is not None
    sam.model.image_encoder.blocks[0].attn.qkv.register_forward_hook(
        lambda *call: types.append(call[-1].dtype)
    )
    found = class_maps(predict)
    assert set(types) == {dtype}
    assert (found == expected).double().mean() >= 0.995


def test_training_follows_the_precision_around_it() -> None:
    predict = predictor("bfloat16")
    proposer = cast(FrozenSeg, predict.model.proposer)
    pixels = ShapesDataset("val")[0].image
    found = {}
    for mode in (True, False):
        proposer.train(mode)
        with torch.no_grad():
            found[mode] = proposer([pixels], predict.text).clip_map
    assert found[True].dtype == found[False].dtype == torch.float32
    assert not torch.equal(found[True], found[False])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(proposer.train()([pixels], predict.text).clip_map.float(), found[False])
