"""Builds a segmenter from a configuration."""

from pathlib import Path

from fvcore.common.config import CfgNode
from torch import nn

from frozenseg.builders.clips import check_tower_files
from frozenseg.builders.model import (
    build_model,
    has_trained_parts,
    takes_backbone,
    takes_clip,
    trained_part,
)
from frozenseg.builders.sam_masks import build_mask_source
from frozenseg.builders.stored_weights import open_whole_weights
from frozenseg.builders.text_transfer import map_from_weights
from frozenseg.builders.vocabularies import build_trained_vocabulary
from frozenseg.checkpoint.members import check_members, has_scrambled_map, load_members
from frozenseg.checkpoint.ovseg import load_clip_of
from frozenseg.checkpoint.weights import holds_whole_clip, load_state, split_state
from frozenseg.config import ConfigError
from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.segmenter import Segmenter
from frozenseg.inference.test_time_augmentation import Augmentation
from frozenseg.io.files import cache_folder
from frozenseg.io.weight_files import WeightsFile
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.modeling.text_transfer import ContentTransfer
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.region_classifiers.pooled_map import PooledMap
from frozenseg.runtime.compiled import compile_parts
from frozenseg.runtime.devices import choose_device


def build_segmenter(cfg: CfgNode, *, model: SegmentationModel | None = None) -> Segmenter:
    """Builds the model of a configuration with its trained weights, ready to use.

    Args:
        cfg: the configuration.
        model: a trained model; None: a new one with the weights of ``MODEL.WEIGHTS``.
    """
    if model is None:
        model = load_model(cfg, cfg.MODEL.WEIGHTS)
        if cfg.MODEL.COMPILE and isinstance(model.proposer, nn.Module):
            compile_parts(model.proposer)
    return Segmenter(
        model=model,
        training=build_trained_vocabulary(cfg),
        settings=output_settings(cfg),
        short_side=cfg.INPUT.MIN_SIZE_TEST,
        long_side=cfg.INPUT.MAX_SIZE_TEST,
        device=choose_device(cfg.MODEL.DEVICE),
        cache_dir=cache_folder() / "text",
        mask_ensemble=build_mask_ensemble(cfg, model),
        augmentation=build_augmentation(cfg),
        literal=cfg.MODEL.PIPELINE.TEXT_ROWS == "literal",
    )


def load_model(
    cfg: CfgNode, weights: str | Path, *, for_training: bool = False
) -> SegmentationModel:
    """Builds the model of a configuration and loads its trained weights, if it has any.

    Args:
        cfg: the configuration.
        weights: a file, or a checkpoint's folder.
        for_training: a CLIP without mask prompts, or weights without a trained member beside the
            decoder, are no error.

    Raises:
        UserError: the configuration and the weights do not fit.
    """
    if not has_trained_parts(cfg):
        return build_model(cfg)
    stored = open_whole_weights(weights, cfg)
    if not takes_backbone(cfg, stored.tensors):
        check_tower_files(cfg)
    model = build_model(cfg, weights=stored.tensors, prompts_optional=for_training)
    load_stored(cfg, model, stored, source=str(weights), for_training=for_training)
    return model


def load_stored(
    cfg: CfgNode,
    model: SegmentationModel,
    stored: WeightsFile,
    *,
    source: str,
    for_training: bool = False,
) -> None:
    """Loads trained weights into every part of a model that has some.

    Args:
        cfg: the configuration of the model.
        model: as ``build_model`` built it for these weights.
        stored: what ``open_whole_weights`` returned.
        source: the file's name in messages.
        for_training: weights without a trained member beside the decoder, or without the CLIP that
            the configuration takes from its weights, are no error.

    Raises:
        UserError: the configuration and the weights do not fit.
    """
    parts = split_state(stored.tensors, source=source)
    check_members(model, parts, source=source, optional=for_training)
    load_members(model, parts)
    if isinstance(model.text_transfer, ContentTransfer) and map_from_weights(cfg):
        model.text_transfer.scrambled = has_scrambled_map(stored)
    towers = cfg.MODEL.WEIGHTS_TOWERS
    starts = for_training and not cfg.MODEL.BACKBONE.FREEZE
    if starts and not holds_whole_clip(stored.tensors):
        towers = "compare"  # a decoder alone: the training starts from the published CLIP
    load_state(trained_part(model), stored, source=source, towers=towers)
    if takes_clip(cfg, stored.tensors):
        load_clip_of(model, stored.tensors, source=source)


def output_settings(cfg: CfgNode) -> OutputSettings:
    """Returns the configured outputs and their thresholds."""
    test = cfg.MODEL.MASK_FORMER.TEST
    return OutputSettings(
        semantic=test.SEMANTIC_ON,
        panoptic=test.PANOPTIC_ON,
        instance=test.INSTANCE_ON,
        proposals=test.RECALL_ON,
        object_threshold=test.OBJECT_MASK_THRESHOLD,
        overlap_threshold=test.OVERLAP_THRESHOLD,
        num_instances=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def build_mask_ensemble(cfg: CfgNode, model: SegmentationModel) -> MaskEnsemble | None:
    """Builds the mask ensemble (eq. 4); None if it is off."""
    keys = cfg.MODEL.MASK_ENSEMBLE
    if not keys.ENABLED:
        return None
    regions, proposer = model.region_classifier, model.proposer
    if not isinstance(regions, PooledMap):
        raise ConfigError(
            "MODEL.MASK_ENSEMBLE.ENABLED needs MODEL.PIPELINE.REGION_CLASSIFIER pooled_map: set "
            "it so, or turn the ensemble off"
        )
    own_sam = proposer.sam if isinstance(proposer, FrozenSeg) and _is_same_sam(cfg) else None
    return MaskEnsemble(
        build_mask_source(cfg, sam=own_sam),
        regions,
        epsilon=keys.EPSILON,
        threshold=keys.THRESHOLD,
    )


def build_augmentation(cfg: CfgNode) -> Augmentation | None:
    """Returns the variants of an image at test time; None if there are none."""
    keys = cfg.TEST.AUG
    if not keys.ENABLED:
        return None
    if not keys.MIN_SIZES:
        raise ConfigError("TEST.AUG.MIN_SIZES is empty: give at least one short side in pixels")
    return Augmentation(short_sides=tuple(keys.MIN_SIZES), long_side=keys.MAX_SIZE, flip=keys.FLIP)


def _is_same_sam(cfg: CfgNode) -> bool:
    """Returns True if the model's own SAM also makes the masks."""
    keys, model = cfg.MODEL.MASK_ENSEMBLE, cfg.MODEL
    return (keys.SAM_NAME, keys.SAM_WEIGHTS) == (model.SAM_NAME, model.SAM_WEIGHTS)
