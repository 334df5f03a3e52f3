"""The parts of a training from its configuration: settings, loss, optimizer, schedule, mapper."""

from dataclasses import dataclass
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from frozenseg.builders.checks import expect
from frozenseg.builders.vocabularies import only_training_set
from frozenseg.config import default_config
from frozenseg.data.augmentation import resize_for_test
from frozenseg.data.catalog import own_test_size
from frozenseg.data.mapper import TrainingMapper
from frozenseg.losses import Criterion, HungarianMatcher
from frozenseg.structures import Sample
from frozenseg.training.optimizer import ClippedAdamW, build_optimizer
from frozenseg.training.schedule import Schedule, cosine, multi_step, warmed_up


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Numbers and names of a training, read from the configuration once.

    Args:
        data_set: registered name of the training set.
        folder: ``OUTPUT_DIR``.
        num_iterations: updates of the whole run.
        batch_size: images per update, over all processes.
        checkpoint_period: updates between checkpoints; 0: only at the end.
        evaluation_period: updates between evaluations; 0: only at the end.
        num_workers: data-loading processes of each process.
        seed: negative: choose one.
        autocast: type of mixed precision; None: off.
    """

    data_set: str
    folder: Path
    num_iterations: int
    batch_size: int
    checkpoint_period: int
    evaluation_period: int
    num_workers: int
    seed: int
    autocast: torch.dtype | None


def training_settings(cfg: CfgNode) -> TrainingSettings:
    """Reads the settings of a training.

    Raises:
        UserError: ``DATASETS.TRAIN`` is not one data set.
    """
    solver = cfg.SOLVER
    return TrainingSettings(
        data_set=only_training_set(cfg),
        folder=Path(cfg.OUTPUT_DIR),
        num_iterations=solver.MAX_ITER,
        batch_size=solver.IMS_PER_BATCH,
        checkpoint_period=solver.CHECKPOINT_PERIOD,
        evaluation_period=cfg.TEST.EVAL_PERIOD,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED,
        autocast=_autocast_type(cfg),
    )


def build_criterion(cfg: CfgNode) -> Criterion:
    """Returns the training loss; the matcher and the losses use the same weights."""
    keys = cfg.MODEL.MASK_FORMER
    weights = {
        "class_weight": keys.CLASS_WEIGHT,
        "mask_weight": keys.MASK_WEIGHT,
        "dice_weight": keys.DICE_WEIGHT,
    }
    return Criterion(
        matcher=HungarianMatcher(**weights, num_points=keys.TRAIN_NUM_POINTS),
        **weights,
        no_object_weight=keys.NO_OBJECT_WEIGHT,
        num_points=keys.TRAIN_NUM_POINTS,
        oversample_ratio=keys.OVERSAMPLE_RATIO,
        importance_ratio=keys.IMPORTANCE_SAMPLE_RATIO,
        deep_supervision=keys.DEEP_SUPERVISION,
    )


def build_adamw(cfg: CfgNode, model: nn.Module) -> ClippedAdamW:
    """Returns the optimizer of the model's trainable parameters."""
    solver, clip = cfg.SOLVER, cfg.SOLVER.CLIP_GRADIENTS
    return build_optimizer(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_embed=solver.WEIGHT_DECAY_EMBED,
        backbone_multiplier=solver.BACKBONE_MULTIPLIER,
        clip_norm=clip.CLIP_VALUE if clip.ENABLED else None,
        norm_type=clip.NORM_TYPE,
    )


def build_schedule(cfg: CfgNode) -> Schedule:
    """Returns the factor of the learning rate at each iteration."""
    solver = cfg.SOLVER
    schedules = {
        "WarmupMultiStepLR": multi_step(steps=solver.STEPS, gamma=solver.GAMMA),
        "WarmupCosineLR": cosine(num_iterations=solver.MAX_ITER),
    }
    expect("SOLVER.LR_SCHEDULER_NAME", solver.LR_SCHEDULER_NAME, tuple(schedules))
    return warmed_up(
        schedules[solver.LR_SCHEDULER_NAME],
        num_iterations=solver.WARMUP_ITERS,
        start_factor=solver.WARMUP_FACTOR,
    )


def build_mapper(cfg: CfgNode) -> TrainingMapper:
    """Returns the augmentation of training samples."""
    keys = cfg.INPUT
    expect("INPUT.DATASET_MAPPER_NAME", keys.DATASET_MAPPER_NAME, ("coco_panoptic_lsj",))
    return TrainingMapper(
        crop_size=keys.IMAGE_SIZE,
        min_scale=keys.MIN_SCALE,
        max_scale=keys.MAX_SCALE,
        flip=0.5 if keys.RANDOM_FLIP == "horizontal" else 0.0,
        keep_empty_targets=keys.KEEP_EMPTY_TARGETS,
    )


class ImagePreparation:
    """Resizes a sample's image to the size that the model is tested at.

    Args:
        short_side, long_side: pixels; see ``resize_for_test``.
    """

    def __init__(self, *, short_side: int, long_side: int) -> None:
        self.short_side, self.long_side = short_side, long_side

    def __call__(self, sample: Sample) -> Tensor:
        return resize_for_test(sample.image, self.short_side, self.long_side)


def build_preparation(cfg: CfgNode, name: str) -> ImagePreparation:
    """Returns the resizing of the images of a test set.

    The test size of a data set file applies if the configuration's keys have their defaults.

    Args:
        cfg: the configuration.
        name: the test set.
    """
    sides = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    default = default_config().INPUT
    if sides == (default.MIN_SIZE_TEST, default.MAX_SIZE_TEST):
        sides = own_test_size(name) or sides
    return ImagePreparation(short_side=sides[0], long_side=sides[1])


def _autocast_type(cfg: CfgNode) -> torch.dtype | None:
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    return getattr(torch, cfg.SOLVER.AMP.DTYPE)
