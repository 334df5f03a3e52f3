"""The whole of training in small: two scenes can be learned by heart."""

import torch

from frozenseg.builders.frozenseg import build_frozenseg
from frozenseg.builders.training import build_adamw, build_criterion
from frozenseg.config import load_config
from frozenseg.data.mapper import target_of
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.training.step import Batch, TrainStep
from frozenseg.vocabulary.text_classifier import build_text_classifier

NUM_UPDATES = 120
SMALLER = [
    *("MODEL.MASK_FORMER.DEC_LAYERS", "4"),
    *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "16"),
    *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "512"),
    *("MODEL.FROZEN_SEG.QUERY_INJECTOR_LAYERS", "(2,)"),
    *("MODEL.FROZEN_SEG.FEATURE_INJECTOR_LAYERS", "(1,)"),
    *("SOLVER.BASE_LR", "0.002"),
]


def test_two_images_are_learned_to_near_zero_loss():
    cfg = load_config("shapes/frozenseg.yaml", SMALLER)
    model = build_frozenseg(cfg).train()
    frozen = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    scenes = [ShapesDataset("train")[index] for index in (0, 1)]
    batch = Batch(
        images=[scene.image for scene in scenes],
        targets=[target_of(scene.panoptic) for scene in scenes],
        names=[scene.file_name for scene in scenes],
        visits=len(scenes),
    )
    step = TrainStep(
        model=model,
        classifier=build_text_classifier(model.backbone.encode_text, shapes_vocabulary("train")),
        criterion=build_criterion(cfg),
        optimizer=build_adamw(cfg, model),
        device=torch.device("cpu"),
    )
    first = step([batch])
    for _ in range(NUM_UPDATES):
        last = step([batch])
    assert first["loss_mask"] > 2 and first["loss_ce"] > 4
    assert last["loss_ce"] < 0.05, "every segment has its class, every other query is void"
    assert last["loss_mask"] < 0.25
    assert last["loss_dice"] < 0.25
    assert all(
        torch.equal(value, frozen[name]) for name, value in model.backbone.state_dict().items()
    )
