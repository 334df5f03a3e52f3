"""Builds the proposer MaskFormer and the parts of its training from a configuration."""

import torch
from fvcore.common.config import CfgNode

from frozenseg.builders.checks import expect
from frozenseg.checkpoint.backbone_weights import load_backbone
from frozenseg.config import ConfigError
from frozenseg.data.color_jitter import ColorJitter
from frozenseg.data.semantic_mapper import SemanticMapper
from frozenseg.losses.maskformer_criterion import MaskFormerCriterion
from frozenseg.losses.maskformer_matcher import PixelMatcher
from frozenseg.modeling.maskformer.maskformer import MaskFormer
from frozenseg.modeling.maskformer.pixel_decoder import FeaturePyramid
from frozenseg.modeling.maskformer.resnet import DeepLabResNet
from frozenseg.modeling.maskformer.swin import SwinTransformer
from frozenseg.modeling.maskformer.transformer_decoder import TransformerDecoder

STRIDE = 32  # of the coarsest map
RESNET_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def build_maskformer(cfg: CfgNode) -> MaskFormer:
    """Builds the proposer; its backbone starts from ``MODEL.BACKBONE.WEIGHTS`` if they are given.

    Raises:
        ConfigError: a key asks for what MaskFormer does not offer.
        UserError: the backbone's weights cannot be read or do not fit.
    """
    _check(cfg)
    backbone = _build_backbone(cfg)
    if cfg.MODEL.BACKBONE.WEIGHTS:
        load_backbone(backbone, cfg.MODEL.BACKBONE.WEIGHTS)
    return _assemble(cfg, backbone)


def maskformer_outline(cfg: CfgNode) -> MaskFormer:
    """Builds the proposer on the meta device: nothing is downloaded or allocated."""
    _check(cfg)
    with torch.device("meta"):
        return _assemble(cfg, _build_backbone(cfg))


def build_maskformer_criterion(cfg: CfgNode) -> MaskFormerCriterion:
    """Builds the training loss; matching and losses weigh their terms alike."""
    keys = cfg.MODEL.MASK_FORMER
    weights = {
        "class_weight": keys.CLASS_WEIGHT,
        "mask_weight": keys.MASK_WEIGHT,
        "dice_weight": keys.DICE_WEIGHT,
    }
    return MaskFormerCriterion(
        matcher=PixelMatcher(**weights),
        **weights,
        no_object_weight=keys.NO_OBJECT_WEIGHT,
        deep_supervision=keys.DEEP_SUPERVISION,
    )


def build_semantic_mapper(cfg: CfgNode) -> SemanticMapper:
    """Builds what training does to a sample with a label map.

    Raises:
        ConfigError: a key asks for what the mapper does not offer.
    """
    keys = cfg.INPUT
    short_sides = tuple(keys.MIN_SIZE_TRAIN)
    if not short_sides or max(short_sides) > keys.MAX_SIZE_TRAIN:
        raise ConfigError(
            f"INPUT.MIN_SIZE_TRAIN is {short_sides}: give one or more sizes up to "
            f"INPUT.MAX_SIZE_TRAIN, which is {keys.MAX_SIZE_TRAIN}"
        )
    return SemanticMapper(
        crop_size=keys.IMAGE_SIZE,
        short_sides=short_sides,
        max_size=keys.MAX_SIZE_TRAIN,
        flip=0.5 if keys.RANDOM_FLIP == "horizontal" else 0.0,
        color_jitter=ColorJitter() if keys.COLOR_AUG_SSD else None,
    )


def _check(cfg: CfgNode) -> None:
    divisibility = cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY
    if divisibility < STRIDE or divisibility % STRIDE:
        raise ConfigError(
            f"MODEL.MASK_FORMER.SIZE_DIVISIBILITY is {divisibility}: set it to {STRIDE} or a "
            "multiple of it, the backbone's largest stride"
        )


def _assemble(cfg: CfgNode, backbone: SwinTransformer | DeepLabResNet) -> MaskFormer:
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    return MaskFormer(
        backbone=backbone,
        pixel_decoder=FeaturePyramid(
            in_channels=backbone.channels, dim=head.CONVS_DIM, mask_dim=head.MASK_DIM
        ),
        transformer_decoder=TransformerDecoder(
            in_channels=backbone.channels[-1],
            dim=former.HIDDEN_DIM,
            mask_dim=head.MASK_DIM,
            embed_dim=head.EMBEDDING_DIM,
            class_hidden_dim=head.EMBED_HIDDEN_DIM,
            num_queries=former.NUM_OBJECT_QUERIES,
            num_heads=former.NHEADS,
            hidden_dim=former.DIM_FEEDFORWARD,
            num_layers=former.DEC_LAYERS,
            dropout=former.DROPOUT,
        ),
        embed_dim=head.EMBEDDING_DIM,
        size_divisibility=former.SIZE_DIVISIBILITY,
    )


def _build_backbone(cfg: CfgNode) -> SwinTransformer | DeepLabResNet:
    name = cfg.MODEL.BACKBONE.NAME
    expect("MODEL.BACKBONE.NAME", name, ("swin", "r101c"))
    if name == "swin":
        swin = cfg.MODEL.SWIN
        return SwinTransformer(
            dim=swin.EMBED_DIM,
            depths=tuple(swin.DEPTHS),
            num_heads=tuple(swin.NUM_HEADS),
            window=swin.WINDOW_SIZE,
            drop_path_rate=swin.DROP_PATH_RATE,
        )
    keys = cfg.MODEL.RESNETS
    expect("MODEL.RESNETS.DEPTH", keys.DEPTH, tuple(RESNET_DEPTHS))
    return DeepLabResNet(
        depths=RESNET_DEPTHS[keys.DEPTH],
        stem_channels=keys.STEM_OUT_CHANNELS,
        multi_grid=tuple(keys.RES5_MULTI_GRID),
        frozen_norm=keys.NORM == "FrozenBN",
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
