"""Where a configuration becomes the parts of a training or an evaluation."""

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from frozenseg.config import ConfigError, default_config
from frozenseg.data.augmentation import resize_for_test
from frozenseg.data.catalog import own_test_size
from frozenseg.data.mapper import TrainingMapper
from frozenseg.losses import Criterion, HungarianMatcher
from frozenseg.structures import Sample
from frozenseg.training.optimizer import ClippedAdamW, build_optimizer
from frozenseg.training.schedule import Schedule, cosine, multi_step, warmed_up


def build_criterion(cfg: CfgNode) -> Criterion:
    """The training loss; matching and losses weigh their terms alike."""
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
    """The optimizer over the model's trainable parameters."""
    solver, clip = cfg.SOLVER, cfg.SOLVER.CLIP_GRADIENTS
    _expect("SOLVER.OPTIMIZER", solver.OPTIMIZER, ("ADAMW",))
    _expect("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clip.CLIP_TYPE, ("full_model",))
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
    """The learning rate's factor at each iteration."""
    solver = cfg.SOLVER
    schedules = {
        "WarmupMultiStepLR": multi_step(steps=solver.STEPS, gamma=solver.GAMMA),
        "WarmupCosineLR": cosine(num_iterations=solver.MAX_ITER),
    }
    _expect("SOLVER.LR_SCHEDULER_NAME", solver.LR_SCHEDULER_NAME, tuple(schedules))
    return warmed_up(
        schedules[solver.LR_SCHEDULER_NAME],
        num_iterations=solver.WARMUP_ITERS,
        start_factor=solver.WARMUP_FACTOR,
    )


def build_mapper(cfg: CfgNode) -> TrainingMapper:
    """What training does to a sample."""
    keys = cfg.INPUT
    _expect("INPUT.FORMAT", keys.FORMAT, ("RGB",))
    _expect("INPUT.DATASET_MAPPER_NAME", keys.DATASET_MAPPER_NAME, ("coco_panoptic_lsj",))
    _expect("INPUT.RANDOM_FLIP", keys.RANDOM_FLIP, ("horizontal", "none"))
    return TrainingMapper(
        crop_size=keys.IMAGE_SIZE,
        min_scale=keys.MIN_SCALE,
        max_scale=keys.MAX_SCALE,
        flip=0.5 if keys.RANDOM_FLIP == "horizontal" else 0.0,
        keep_empty_targets=keys.KEEP_EMPTY_TARGETS,
    )


def autocast_type(cfg: CfgNode) -> torch.dtype | None:
    """Of mixed precision; None where it is off."""
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    _expect("SOLVER.AMP.DTYPE", cfg.SOLVER.AMP.DTYPE, ("bfloat16", "float16"))
    return getattr(torch, cfg.SOLVER.AMP.DTYPE)


def check_numbers(cfg: CfgNode) -> None:
    """Refuses what no training can be made of.

    Raises:
        ConfigError: a number is too small; the key is named.
    """
    smallest = {
        "SOLVER.MAX_ITER": (cfg.SOLVER.MAX_ITER, 1),
        "SOLVER.IMS_PER_BATCH": (cfg.SOLVER.IMS_PER_BATCH, 1),
        "INPUT.IMAGE_SIZE": (cfg.INPUT.IMAGE_SIZE, 1),
        "DATALOADER.NUM_WORKERS": (cfg.DATALOADER.NUM_WORKERS, 0),
    }
    for key, (value, least) in smallest.items():
        if value < least:
            raise ConfigError(f"{key} must be at least {least}, got {value}")


class ImagePreparation:
    """A sample's image at the size that the model is tested at."""

    def __init__(self, *, short_side: int, long_side: int) -> None:
        self.short_side, self.long_side = short_side, long_side

    def __call__(self, sample: Sample) -> Tensor:
        return resize_for_test(sample.image, self.short_side, self.long_side)


def build_preparation(cfg: CfgNode, name: str) -> ImagePreparation:
    """Returns what evaluation does to a sample's image.

    The test size of a data set file applies if the configuration's keys have their defaults.

    Args:
        cfg: the configuration.
        name: the data set.
    """
    _expect("INPUT.FORMAT", cfg.INPUT.FORMAT, ("RGB",))
    sides = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    default = default_config().INPUT
    if sides == (default.MIN_SIZE_TEST, default.MAX_SIZE_TEST):
        sides = own_test_size(name) or sides
    return ImagePreparation(short_side=sides[0], long_side=sides[1])


def _expect(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        choices = " or ".join(str(choice) for choice in allowed)
        raise ConfigError(f"{name} is {value}: set it to {choices}")
