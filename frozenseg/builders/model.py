"""Builds the model of a configuration: one member per interface of the pipeline."""

from collections.abc import Mapping

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.builders.checks import expect
from frozenseg.builders.clips import (
    AnyClip,
    Clips,
    as_map_tower,
    clip_keys,
    load_clips,
    with_random_towers,
)
from frozenseg.builders.frozenseg import build_frozenseg, divisibility_for
from frozenseg.builders.maskformer import build_maskformer
from frozenseg.builders.sam_masks import build_mask_source
from frozenseg.builders.text_transfer import build_text_transfer
from frozenseg.checkpoint.ovseg import holds_clip
from frozenseg.checkpoint.weights import holds_whole_clip
from frozenseg.config import ConfigError
from frozenseg.modeling.mask_adapter import MaskAdapter
from frozenseg.modeling.maskformer.maskformer import MaskFormer
from frozenseg.modeling.text_transfer import ContentTransfer
from frozenseg.modeling.trained import TrainedProposer
from frozenseg.pipeline.clip_maps import aligned_masks
from frozenseg.pipeline.fusion.clip_alone import ClipAlone
from frozenseg.pipeline.fusion.coat import Coat
from frozenseg.pipeline.fusion.geometric import Geometric
from frozenseg.pipeline.fusion.product import Product
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.proposers.sam_points import SamPoints
from frozenseg.pipeline.protocols import Fusion, Proposer, RegionClassifier
from frozenseg.pipeline.region_classifiers.mask_adapter import AdaptedMaps
from frozenseg.pipeline.region_classifiers.masked_crops import MaskedCrops
from frozenseg.pipeline.region_classifiers.pooled_map import PooledMap, stretched_masks
from frozenseg.towers.clip import ClipTower, ConvNeXtClip
from frozenseg.towers.map_crops import MapCrops
from frozenseg.towers.sam import SamTower

TRAINED = ("mask2former", "maskformer")  # proposers with trained weights


def build_model(
    cfg: CfgNode,
    *,
    clip: AnyClip | None = None,
    sam: SamTower | None = None,
    weights: Mapping[str, Tensor] | None = None,
    prompts_optional: bool = False,
) -> SegmentationModel:
    """Builds the system with its towers loaded and the trained parts freshly initialised.

    Args:
        cfg: the configuration.
        clip: pre-built CLIP tower that overrides the configured one.
        sam: pre-built SAM tower that overrides the configured one.
        weights: trained weights to be loaded next; the layout of the SAM branch is read off them,
            and a CLIP that they hold is not loaded from elsewhere.
        prompts_optional: a CLIP without mask prompts is no error, for training a proposer.

    Raises:
        ConfigError: a key asks for what the model does not offer, or disagrees with a tower.
    """
    stored = takes_clip(cfg, weights) or takes_backbone(cfg, weights)
    clips = load_clips(cfg, clip=clip, stored=stored, prompts_optional=prompts_optional)
    fusion, panoptic_fusion = _build_fusions(cfg)
    proposer = _build_proposer(cfg, clips.proposer, sam, weights)
    text_transfer = build_text_transfer(cfg, clips)
    return SegmentationModel(
        proposer=proposer,
        region_classifier=_build_region_classifier(cfg, clips, text_transfer),
        text_encoder=clips.proposer,
        region_text_encoder=None if clips.regions is clips.proposer else clips.regions,
        fusion=fusion,
        panoptic_fusion=panoptic_fusion,
        text_transfer=text_transfer,
    )


def takes_clip(cfg: CfgNode, weights: Mapping[str, Tensor] | None) -> bool:
    """Returns True if the region classifier's CLIP is to be read from the trained weights."""
    keys = cfg.MODEL
    wanted = keys.PIPELINE.REGION_CLASSIFIER == "masked_crops" and keys.WEIGHTS_TOWERS == "use"
    return wanted and weights is not None and holds_clip(weights)


def takes_backbone(cfg: CfgNode, weights: Mapping[str, Tensor] | None) -> bool:
    """Returns True if the one CLIP of the system is to be read from the trained weights."""
    keys = cfg.MODEL
    if keys.WEIGHTS_TOWERS != "use" or keys.PIPELINE.REGION_CLIP_NAME or weights is None:
        return False
    return holds_whole_clip(weights)


def trained_part(model: SegmentationModel) -> TrainedProposer:
    """Returns the member of the model that is trained."""
    assert isinstance(model.proposer, TrainedProposer), "the others have no trained weights"
    return model.proposer


def has_trained_parts(cfg: CfgNode) -> bool:
    """Returns True if the configured system has trained weights."""
    return cfg.MODEL.PIPELINE.PROPOSER in TRAINED


def model_outline(cfg: CfgNode) -> SegmentationModel:
    """Builds the model on the meta device: nothing is downloaded or allocated."""
    with torch.device("meta"):
        return build_model(with_random_towers(cfg))


def _build_proposer(
    cfg: CfgNode,
    clip: AnyClip,
    sam: SamTower | None,
    weights: Mapping[str, Tensor] | None,
) -> Proposer:
    builders = {
        "mask2former": lambda: build_frozenseg(
            cfg, clip=as_map_tower(clip, "the proposer mask2former"), sam=sam, weights=weights
        ),
        "maskformer": lambda: _with_same_width(build_maskformer(cfg), clip),
        "sam_points": lambda: SamPoints(
            source=build_mask_source(cfg, sam=sam), size_divisibility=_sam_divisibility(cfg, clip)
        ),
    }
    name = cfg.MODEL.PIPELINE.PROPOSER
    expect("MODEL.PIPELINE.PROPOSER", name, tuple(builders))
    return builders[name]()


def _with_same_width(proposer: MaskFormer, clip: AnyClip) -> MaskFormer:
    width = len(proposer.void)
    if width != clip.embed_dim:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.EMBEDDING_DIM is {width} but {clip.name} embeds in "
            f"{clip.embed_dim}: set it to {clip.embed_dim}"
        )
    return proposer


def _sam_divisibility(cfg: CfgNode, clip: AnyClip) -> int:
    if isinstance(clip, ClipTower):
        return divisibility_for(cfg, clip)
    return cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY


def _build_region_classifier(
    cfg: CfgNode, clips: Clips, transfer: ContentTransfer | None
) -> RegionClassifier:
    keys, clip = cfg.MODEL.PIPELINE, clips.regions
    sees_image_only = keys.PROPOSER == "sam_points"
    builders = {
        "pooled_map": lambda: PooledMap(
            clip=as_map_tower(clip, "the region classifier pooled_map"),
            place_masks=stretched_masks if sees_image_only else aligned_masks,
        ),
        "masked_crops": lambda: MaskedCrops(
            clip=MapCrops(clip) if isinstance(clip, ClipTower) else clip,
            threshold=cfg.MODEL.OVSEG.MASK_THRESHOLD,
            precision=cfg.MODEL.OVSEG.PRECISION,
        ),
        "mask_adapter": lambda: _build_mask_adapter(cfg, clip, transfer),
    }
    expect("MODEL.PIPELINE.REGION_CLASSIFIER", keys.REGION_CLASSIFIER, tuple(builders))
    return builders[keys.REGION_CLASSIFIER]()


def _build_mask_adapter(
    cfg: CfgNode, clip: AnyClip, transfer: ContentTransfer | None
) -> AdaptedMaps:
    if not isinstance(clip, ConvNeXtClip):
        raise ConfigError(
            f"the region classifier mask_adapter needs a ConvNeXt CLIP, which {clip.name} is not: "
            "set CLIP_MODEL_NAME to one, or MODEL.PIPELINE.REGION_CLASSIFIER to pooled_map"
        )
    keys = cfg.MODEL.MASK_ADAPTER
    adapter = MaskAdapter(
        embed_dim=clip.embed_dim,
        mask_dim=keys.MASK_IN_CHANNELS,
        dim=keys.NUM_CHANNELS,
        num_maps=keys.NUM_OUTPUT_MAPS,
    )
    return AdaptedMaps(
        clip=clip,
        adapter=adapter,
        threshold=keys.MASK_THRESHOLD,
        embed_map=None if transfer is None else transfer.image_map,
    )


def _build_fusions(cfg: CfgNode) -> tuple[Fusion, Fusion | None]:
    """Returns the rule of all outputs, and that of panoptic output if it has one of its own."""
    rule, keys = _build_fusion(cfg), cfg.MODEL.OVRCOAT
    if not keys.CLIP_TRUST_WEIGHT:
        return rule, None
    if cfg.MODEL.PIPELINE.FUSION != "geometric":
        raise ConfigError(
            "MODEL.OVRCOAT.CLIP_TRUST_WEIGHT lowers the proposer's void, which the fusion "
            f"{cfg.MODEL.PIPELINE.FUSION} ignores: set it to 0, or MODEL.PIPELINE.FUSION to "
            "geometric"
        )
    coat = Coat(fusion=rule, trust=keys.CLIP_TRUST_WEIGHT)
    return (coat, None) if keys.COAT_OUTPUTS == "all" else (rule, coat)


def _build_fusion(cfg: CfgNode) -> Fusion:
    keys, ovseg = clip_keys(cfg), cfg.MODEL.OVSEG
    builders = {
        "geometric": lambda: Geometric(
            alpha=keys.GEOMETRIC_ENSEMBLE_ALPHA,
            beta=keys.GEOMETRIC_ENSEMBLE_BETA,
            valid_only=keys.ENSEMBLE_ON_VALID_MASK,
        ),
        "product": lambda: Product(exponent=ovseg.EXPONENT, invalid=ovseg.INVALID_MASKS),
        "clip_alone": ClipAlone,
    }
    name = cfg.MODEL.PIPELINE.FUSION
    expect("MODEL.PIPELINE.FUSION", name, tuple(builders))
    needs_classes = name == "geometric" or (name == "product" and ovseg.EXPONENT > 0)
    if needs_classes and cfg.MODEL.PIPELINE.PROPOSER == "sam_points":
        raise ConfigError(
            f"MODEL.PIPELINE.FUSION {name} needs class logits, which the proposer sam_points "
            "does not have: set it to clip_alone"
        )
    return builders[name]()
