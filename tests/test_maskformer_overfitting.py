"""Training MaskFormer in small: two scenes are learned by heart, by the engine's own step."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from frozenseg.data.semantic_mapper import SemanticMapper
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.losses.maskformer_criterion import MaskFormerCriterion
from frozenseg.losses.maskformer_matcher import PixelMatcher
from frozenseg.modeling.maskformer.maskformer import MaskFormer
from frozenseg.modeling.maskformer.pixel_decoder import FeaturePyramid
from frozenseg.modeling.maskformer.swin import SwinTransformer
from frozenseg.modeling.maskformer.transformer_decoder import TransformerDecoder
from frozenseg.structures import InputImage
from frozenseg.training.optimizer import build_optimizer
from frozenseg.training.step import Batch, TrainStep
from frozenseg.vocabulary.text_classifier import TextClassifier

NUM_UPDATES = 100
SIDE, WIDTH = 96, 32


def tiny() -> MaskFormer:
    backbone = SwinTransformer(
        dim=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8), window=4, drop_path_rate=0.0
    )
    return MaskFormer(
        backbone=backbone,
        pixel_decoder=FeaturePyramid(
            in_channels=backbone.channels, dim=32, mask_dim=32, num_groups=8
        ),
        transformer_decoder=TransformerDecoder(
            in_channels=backbone.channels[-1],
            dim=32,
            mask_dim=32,
            embed_dim=WIDTH,
            class_hidden_dim=64,
            num_queries=12,
            num_heads=4,
            hidden_dim=64,
            num_layers=3,
            dropout=0.0,
        ),
        embed_dim=WIDTH,
    )


@pytest.mark.slow
def test_two_images_are_learned() -> None:
    torch.manual_seed(0)
    model = tiny().train()
    num_classes = len(shapes_vocabulary("train"))
    text = TextClassifier(
        F.normalize(torch.randn(num_classes, WIDTH), dim=-1), torch.arange(num_classes)
    )
    mapper = SemanticMapper(
        crop_size=SIDE, short_sides=(SIDE,), max_size=SIDE, flip=0.0, color_jitter=None
    )
    samples = [ShapesDataset("train")[index] for index in (0, 1)]
    images, targets = zip(
        *(mapper(sample, np.random.default_rng(0)) for sample in samples), strict=True
    )
    batch = Batch(list(images), list(targets), ["first", "second"], visits=2)
    step = TrainStep(
        model=model,  # type: ignore[arg-type] (the same interface)
        classifier=text,
        criterion=MaskFormerCriterion(matcher=PixelMatcher()),  # type: ignore[arg-type]
        optimizer=build_optimizer(model, base_lr=2e-3, clip_norm=1.0, backbone_multiplier=1.0),
        device=torch.device("cpu"),
    )
    first = step([batch])
    for _ in range(NUM_UPDATES):
        last = step([batch])
    assert first["loss_mask"] > 1 and first["loss_ce"] > 10
    assert last["loss_ce"] < 0.05, "every class has its query, the other queries are no object"
    assert last["loss_mask"] < 0.15 and last["loss_dice"] < 0.35
    assert set(last) > {"loss_ce_0", "loss_ce_1", "loss_ce", "loss_mask_1", "loss_dice"}
    proposals = model.eval().propose(
        [InputImage(image, image, (SIDE, SIDE)) for image in images], text
    )
    for found, target in zip(proposals, targets, strict=True):
        probs = found.class_logits.softmax(-1)[:, :-1]
        masks = F.interpolate(found.mask_logits[None], (SIDE, SIDE), mode="bilinear")[0].sigmoid()
        predicted = torch.einsum("qk,qhw->khw", probs, masks).argmax(0)
        labels = (target.masks * target.class_ids[:, None, None]).sum(0)
        assert (predicted == labels).float().mean() > 0.9
