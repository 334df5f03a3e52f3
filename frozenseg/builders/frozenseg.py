"""Builds the proposer of FrozenSeg and FC-CLIP from a configuration."""

from collections.abc import Mapping

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.builders.checks import expect
from frozenseg.builders.clips import clip_keys, load_backbone, with_random_towers
from frozenseg.checkpoint.layout import choose_layout
from frozenseg.config import ConfigError
from frozenseg.modeling.deformable_encoder import DeformableEncoder
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.modeling.pixel_decoder import PixelDecoder, SamBranch
from frozenseg.modeling.transformer_decoder import TransformerDecoder
from frozenseg.towers.clip import ClipTower
from frozenseg.towers.loading import load_sam
from frozenseg.towers.sam import SamTower

ARCHITECTURES = ("FrozenSeg", "FCCLIP")


def build_frozenseg(
    cfg: CfgNode,
    *,
    clip: ClipTower | None = None,
    sam: SamTower | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> FrozenSeg:
    """Builds the proposer of FrozenSeg or FC-CLIP alone.

    Args:
        cfg: the configuration.
        clip: pre-built CLIP tower that overrides the configured one.
        sam: pre-built SAM tower that overrides the configured one.
        weights: trained weights to be loaded next; the layout of the SAM branch is read off them.

    Raises:
        ConfigError: a key asks for what the model does not offer, or disagrees with a tower.
    """
    check_architecture(cfg)
    clip = load_backbone(cfg) if clip is None else clip
    embed_dim = clip_keys(cfg).EMBED_DIM
    if clip.embed_dim != embed_dim:
        raise ConfigError(
            f"EMBED_DIM is {embed_dim} but {clip.name} embeds in {clip.embed_dim}: "
            f"set it to {clip.embed_dim}"
        )
    if not uses_sam(cfg):
        sam = None
    elif sam is None:
        sam = load_sam(cfg.MODEL.SAM_NAME, cfg.MODEL.SAM_WEIGHTS)
    return FrozenSeg(
        backbone=clip,
        sam=sam,
        pixel_decoder=_build_pixel_decoder(cfg, clip, sam, weights),
        transformer_decoder=_build_transformer_decoder(cfg, clip, sam),
        embed_dim=clip.embed_dim,
        size_divisibility=divisibility_for(cfg, clip),
        precision=cfg.MODEL.PRECISION,
    )


def frozenseg_outline(cfg: CfgNode, weights: Mapping[str, Tensor] | None = None) -> FrozenSeg:
    """Builds the proposer on the meta device: nothing is downloaded or allocated."""
    with torch.device("meta"):
        return build_frozenseg(with_random_towers(cfg), weights=weights)


def uses_sam(cfg: CfgNode) -> bool:
    """Returns True if any injector needs SAM."""
    keys = cfg.MODEL.FROZEN_SEG
    injectors = len(keys.QUERY_INJECTOR_LAYERS) + len(keys.FEATURE_INJECTOR_LAYERS)
    return cfg.MODEL.META_ARCHITECTURE == "FrozenSeg" and injectors > 0


def divisibility_for(cfg: CfgNode, clip: ClipTower) -> int:
    """Returns what the sides of padded images are multiples of, pixels.

    Raises:
        ConfigError: it is no multiple of the tower's largest stride.
    """
    divisibility, stride = cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY, max(clip.strides)
    if divisibility % stride:
        raise ConfigError(
            f"MODEL.MASK_FORMER.SIZE_DIVISIBILITY is {divisibility}, which is not a multiple of "
            f"the backbone's largest stride: set it to {stride}"
        )
    return divisibility


def _build_pixel_decoder(
    cfg: CfgNode,
    clip: ClipTower,
    sam: SamTower | None,
    weights: Mapping[str, Tensor] | None,
) -> PixelDecoder:
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    num_levels = len(clip.channels) - 1  # all but the finest

    def encoder(num_levels: int) -> DeformableEncoder:
        return DeformableEncoder(
            dim=head.CONVS_DIM,
            num_layers=head.TRANSFORMER_ENC_LAYERS,
            num_heads=former.NHEADS,
            num_levels=num_levels,
            hidden_dim=head.DIM_FEEDFORWARD,
        )

    branch = None
    if sam is not None and cfg.MODEL.FROZEN_SEG.FEATURE_INJECTOR_LAYERS:
        configured = cfg.MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT
        layout = choose_layout(configured, weights, source=cfg.MODEL.WEIGHTS)
        branch = SamBranch(
            in_channels=sam.out_channels,
            dim=head.CONVS_DIM,
            encoder=encoder(num_levels if layout == "three_level" else 1),
        )
    return PixelDecoder(
        in_channels=clip.channels,
        dim=head.CONVS_DIM,
        mask_dim=head.MASK_DIM,
        encoder=encoder(num_levels),
        sam_branch=branch,
    )


def _build_transformer_decoder(
    cfg: CfgNode, clip: ClipTower, sam: SamTower | None
) -> TransformerDecoder:
    former, keys = cfg.MODEL.MASK_FORMER, cfg.MODEL.FROZEN_SEG
    num_layers = former.DEC_LAYERS - 1  # one counts the prediction from the learned queries
    return TransformerDecoder(
        dim=former.HIDDEN_DIM,
        mask_dim=cfg.MODEL.SEM_SEG_HEAD.MASK_DIM,
        embed_dim=clip.embed_dim,
        num_queries=former.NUM_OBJECT_QUERIES,
        num_heads=former.NHEADS,
        hidden_dim=former.DIM_FEEDFORWARD,
        num_layers=num_layers,
        num_levels=len(clip.channels) - 1,
        sam_dim=None if sam is None else sam.out_channels,
        query_layers=() if sam is None else keys.QUERY_INJECTOR_LAYERS,
        feature_layers=() if sam is None else keys.FEATURE_INJECTOR_LAYERS,
    )


def check_architecture(cfg: CfgNode) -> None:
    """Raises a ``ConfigError`` for architecture keys that this model does not offer."""
    model = cfg.MODEL
    expect("MODEL.META_ARCHITECTURE", model.META_ARCHITECTURE, ARCHITECTURES)
    expect("MODEL.MASK_FORMER.PRE_NORM", model.MASK_FORMER.PRE_NORM, (False,))
    expect("MODEL.MASK_FORMER.DROPOUT", model.MASK_FORMER.DROPOUT, (0.0,))
    expect("MODEL.SEM_SEG_HEAD.NORM", model.SEM_SEG_HEAD.NORM, ("GN",))
    layout = model.FROZEN_SEG.SAM_ATTENTION_LAYOUT
    layouts = ("from_weights", "single_level", "three_level")
    expect("MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT", layout, layouts)
    if model.SEM_SEG_HEAD.CONVS_DIM != model.MASK_FORMER.HIDDEN_DIM:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.CONVS_DIM is {model.SEM_SEG_HEAD.CONVS_DIM} but "
            f"MODEL.MASK_FORMER.HIDDEN_DIM is {model.MASK_FORMER.HIDDEN_DIM}: set both alike"
        )
    num_layers = model.MASK_FORMER.DEC_LAYERS - 1
    for name in ("QUERY_INJECTOR_LAYERS", "FEATURE_INJECTOR_LAYERS"):
        outside = [layer for layer in model.FROZEN_SEG[name] if not 1 <= layer <= num_layers]
        if outside:
            raise ConfigError(
                f"MODEL.FROZEN_SEG.{name} names layer {outside[0]}: layers are 1 to {num_layers}"
            )
