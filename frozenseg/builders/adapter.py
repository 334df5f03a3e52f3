"""Builds the training of a Mask-Adapter."""

from fvcore.common.config import CfgNode

from frozenseg.config import ConfigError
from frozenseg.losses.adapter_criterion import AdapterCriterion
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.training.adapter_training import AdapterTraining


def trains_adapter(cfg: CfgNode) -> bool:
    """Returns True if a training of the configuration is that of its Mask-Adapter."""
    return cfg.MODEL.PIPELINE.REGION_CLASSIFIER == "mask_adapter"


def is_warmup(cfg: CfgNode) -> bool:
    """Returns True if the training is on annotated masks alone, without a decoder."""
    return trains_adapter(cfg) and cfg.MODEL.MASK_ADAPTER.TRAIN_PHASE == "ground_truth"


def build_adapter_training(cfg: CfgNode, model: SegmentationModel) -> AdapterTraining:
    """Builds the training of the model's adapter; everything else but void is frozen.

    Raises:
        ConfigError: the proposer is not that of FrozenSeg or FC-CLIP, CLIP's text encoders differ,
            or text rows depend on the image.
    """
    keys, warmup = cfg.MODEL.MASK_ADAPTER, is_warmup(cfg)
    if not isinstance(model.proposer, FrozenSeg) or model.region_text_encoder is not None:
        raise ConfigError(
            "a Mask-Adapter is trained on the decoder and the CLIP of FrozenSeg or FC-CLIP: set "
            "MODEL.PIPELINE.PROPOSER to mask2former and REGION_CLIP_NAME to ''"
        )
    if model.text_transfer is not None:
        raise ConfigError(
            "a Mask-Adapter on MAFT+ is evaluated, not trained: pass --eval-only, or set "
            "MODEL.PIPELINE.TEXT_ROWS to synonyms"
        )
    return AdapterTraining(
        model,
        criterion=AdapterCriterion(
            class_weight=cfg.MODEL.MASK_FORMER.CLASS_WEIGHT, cos_weight=keys.COS_WEIGHT
        ),
        num_annotated=2 * keys.NUM_GT_MASKS if warmup else keys.NUM_GT_MASKS,
        num_pairs=0 if warmup else keys.NUM_PRED_MASKS,
        least_iou=keys.IOU_THRESHOLD,
    )
