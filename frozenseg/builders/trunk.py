"""Builds the training of CLIP's image trunk: MAFT+, and OVR (OVRCOAT)."""

from fvcore.common.config import CfgNode

from frozenseg.builders.adapter import trains_adapter
from frozenseg.builders.clips import load_backbone
from frozenseg.builders.text_transfer import has_text_transfer
from frozenseg.builders.training import build_criterion
from frozenseg.config import ConfigError
from frozenseg.losses import Criterion
from frozenseg.losses.matched_regions import MatchedRegionLoss
from frozenseg.losses.ranking import RankingLoss
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.region_classifiers.pooled_map import PooledMap
from frozenseg.towers.clip import ConvNeXtClip
from frozenseg.training.trunk_training import TrunkTraining


def trains_trunk(cfg: CfgNode) -> bool:
    """Returns True if a training of the configuration changes CLIP's image trunk."""
    return cfg.MODEL.PIPELINE.PROPOSER == "mask2former" and not cfg.MODEL.BACKBONE.FREEZE


def trains_scale(cfg: CfgNode) -> bool:
    """Returns True if CLIP's factor on cosines learns with the trunk: in OVR, not in MAFT+."""
    return not has_text_transfer(cfg)


def check_trunk_keys(cfg: CfgNode) -> None:
    """Raises a ``ConfigError`` if keys of MAFT+'s and OVR's trainings disagree."""
    if trains_trunk(cfg) and cfg.MODEL.WEIGHTS_TOWERS != "use":
        raise ConfigError(
            "MODEL.BACKBONE.FREEZE False trains CLIP, which is then part of the weights: set "
            "MODEL.WEIGHTS_TOWERS to use"
        )
    if has_text_transfer(cfg) and not trains_trunk(cfg) and not trains_adapter(cfg):
        raise ConfigError(
            "MODEL.PIPELINE.TEXT_ROWS content is trained together with CLIP's image trunk: set "
            "MODEL.BACKBONE.FREEZE to False, or evaluate with --eval-only"
        )


def build_trunk_training(cfg: CfgNode, model: SegmentationModel) -> TrunkTraining:
    """Builds the training of MAFT+ if text rows depend on the image, else that of OVR.

    Raises:
        ConfigError: the system has no ConvNeXt trunk whose pooled map classifies regions.
    """
    clip, regions = _trunk_of(model), model.region_classifier
    if clip is None or not isinstance(regions, PooledMap) or regions.clip is not clip:
        raise ConfigError(
            "MODEL.BACKBONE.FREEZE False needs one ConvNeXt CLIP that the decoder reads and whose "
            "map is pooled: set CLIP_MODEL_NAME to one, MODEL.PIPELINE.REGION_CLASSIFIER to "
            "pooled_map and REGION_CLIP_NAME to ''"
        )
    criterion = build_criterion(cfg)
    assert isinstance(criterion, Criterion), "the proposer is mask2former"
    if not has_text_transfer(cfg):
        return TrunkTraining(
            model,
            criterion=criterion,
            region_loss=MatchedRegionLoss(weight=cfg.MODEL.OVRCOAT.CE_WEIGHT),
            decoder_reaches_trunk=True,
            trains_scale=trains_scale(cfg),
            stochastic_depth=True,
        )
    keys = cfg.MODEL.MAFT_PLUS
    teacher = load_backbone(cfg)
    assert isinstance(teacher, ConvNeXtClip), "as the CLIP that learns"
    return TrunkTraining(
        model,
        criterion=criterion,
        region_loss=RankingLoss(weight=keys.RANKING_WEIGHT),
        teacher=teacher.to(clip.pixel_mean.device),
        teacher_weight=keys.RC_WEIGHT,
    )


def _trunk_of(model: SegmentationModel) -> ConvNeXtClip | None:
    proposer = model.proposer
    clip = proposer.backbone if isinstance(proposer, FrozenSeg) else None
    return clip if isinstance(clip, ConvNeXtClip) else None
