"""The only place where a configuration becomes the model."""

import torch
from fvcore.common.config import CfgNode

from frozenseg.builders.checks import expect
from frozenseg.config import ConfigError
from frozenseg.modeling.deformable_encoder import DeformableEncoder
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.modeling.pixel_decoder import PixelDecoder, SamBranch
from frozenseg.modeling.transformer_decoder import TransformerDecoder
from frozenseg.towers.clip import ClipTower
from frozenseg.towers.loading import RANDOM, load_clip, load_sam
from frozenseg.towers.sam import SamTower

NUM_LEVELS = 3  # res3, res4, res5


def build_model(
    cfg: CfgNode, *, clip: ClipTower | None = None, sam: SamTower | None = None
) -> FrozenSeg:
    """The whole model with its towers loaded and the trained parts fresh.

    Args:
        clip, sam: towers at hand, instead of those that the configuration names.

    Raises:
        ConfigError: a key asks for what the model does not offer, or disagrees with a tower.
    """
    _check(cfg)
    keys = clip_keys(cfg)
    clip = clip or load_clip(keys.CLIP_MODEL_NAME, keys.CLIP_PRETRAINED_WEIGHTS)
    if clip.embed_dim != keys.EMBED_DIM:
        raise ConfigError(
            f"EMBED_DIM is {keys.EMBED_DIM} but {keys.CLIP_MODEL_NAME} embeds in {clip.embed_dim}: "
            f"set it to {clip.embed_dim}"
        )
    if not uses_sam(cfg):
        sam = None
    elif sam is None:
        sam = load_sam(cfg.MODEL.SAM_NAME, cfg.MODEL.SAM_WEIGHTS)
    return FrozenSeg(
        clip=clip,
        sam=sam,
        pixel_decoder=_build_pixel_decoder(cfg, clip, sam),
        transformer_decoder=_build_transformer_decoder(cfg, clip, sam),
        size_divisibility=cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY,
    )


def build_outline(cfg: CfgNode) -> FrozenSeg:
    """The model in shape only, on the meta device: nothing is downloaded or allocated."""
    cfg = cfg.clone()
    cfg.defrost()
    clip_keys(cfg).CLIP_PRETRAINED_WEIGHTS = cfg.MODEL.SAM_WEIGHTS = RANDOM
    with torch.device("meta"):
        return build_model(cfg)


def clip_keys(cfg: CfgNode) -> CfgNode:
    """The keys of the CLIP tower and its ensemble: FC-CLIP files keep them under another name."""
    return cfg.MODEL.FC_CLIP if cfg.MODEL.META_ARCHITECTURE == "FCCLIP" else cfg.MODEL.FROZEN_SEG


def uses_sam(cfg: CfgNode) -> bool:
    """Whether any injector needs SAM."""
    keys = cfg.MODEL.FROZEN_SEG
    injectors = len(keys.QUERY_INJECTOR_LAYERS) + len(keys.FEATURE_INJECTOR_LAYERS)
    return cfg.MODEL.META_ARCHITECTURE == "FrozenSeg" and injectors > 0


def _build_pixel_decoder(cfg: CfgNode, clip: ClipTower, sam: SamTower | None) -> PixelDecoder:
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER

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
        layout = cfg.MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT
        branch = SamBranch(
            in_channels=sam.out_channels,
            dim=head.CONVS_DIM,
            encoder=encoder(NUM_LEVELS if layout == "three_level" else 1),
        )
    return PixelDecoder(
        in_channels=clip.channels,
        dim=head.CONVS_DIM,
        mask_dim=head.MASK_DIM,
        encoder=encoder(NUM_LEVELS),
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
        num_levels=NUM_LEVELS,
        sam_dim=None if sam is None else sam.out_channels,
        query_layers=() if sam is None else keys.QUERY_INJECTOR_LAYERS,
        feature_layers=() if sam is None else keys.FEATURE_INJECTOR_LAYERS,
    )


def _check(cfg: CfgNode) -> None:
    model = cfg.MODEL
    expect("MODEL.META_ARCHITECTURE", model.META_ARCHITECTURE, ("FrozenSeg", "FCCLIP"))
    expect("MODEL.MASK_FORMER.PRE_NORM", model.MASK_FORMER.PRE_NORM, (False,))
    expect("MODEL.MASK_FORMER.DROPOUT", model.MASK_FORMER.DROPOUT, (0.0,))
    expect("MODEL.SEM_SEG_HEAD.NORM", model.SEM_SEG_HEAD.NORM, ("GN",))
    layouts = ("single_level", "three_level")
    expect("MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT", model.FROZEN_SEG.SAM_ATTENTION_LAYOUT, layouts)
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
