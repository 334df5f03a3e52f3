"""The place where a configuration becomes a segmenter."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.builders.model import build_model, clip_keys
from frozenseg.builders.vocabularies import build_training_vocabulary
from frozenseg.checkpoint.weights import load_weights
from frozenseg.config import ConfigError
from frozenseg.inference.class_ensemble import ClassEnsemble
from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.only_sam import ClipAlone
from frozenseg.inference.postprocess import Postprocess
from frozenseg.inference.segmenter import Segmenter
from frozenseg.inference.test_time_augmentation import Augmentation
from frozenseg.io.files import cache_folder
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.runtime.devices import choose_device
from frozenseg.sam_masks.cache import CachedMasks, MaskCache
from frozenseg.sam_masks.generator import MaskSettings, MaskSource, SamMaskGenerator
from frozenseg.towers.loading import load_clip, load_sam
from frozenseg.towers.sam import SamTower

ONLY_SAM = "OnlySAM"  # a META_ARCHITECTURE without a trained part


def build_segmenter(cfg: CfgNode, *, model: FrozenSeg | ClipAlone | None = None) -> Segmenter:
    """The model of a configuration with its trained weights, ready to use.

    Args:
        model: one at hand, instead of a new one with the weights of ``MODEL.WEIGHTS``.
    """
    model = load_model(cfg, cfg.MODEL.WEIGHTS) if model is None else model
    keys, test = clip_keys(cfg), cfg.MODEL.MASK_FORMER.TEST
    return Segmenter(
        model=model,
        training=build_training_vocabulary(cfg),
        short_side=cfg.INPUT.MIN_SIZE_TEST,
        long_side=cfg.INPUT.MAX_SIZE_TEST,
        ensemble=ClassEnsemble(
            alpha=keys.GEOMETRIC_ENSEMBLE_ALPHA,
            beta=keys.GEOMETRIC_ENSEMBLE_BETA,
            valid_only=keys.ENSEMBLE_ON_VALID_MASK,
        ),
        postprocess=Postprocess(
            semantic=test.SEMANTIC_ON,
            panoptic=test.PANOPTIC_ON,
            instance=test.INSTANCE_ON,
            proposals=test.RECALL_ON,
            object_threshold=test.OBJECT_MASK_THRESHOLD,
            overlap_threshold=test.OVERLAP_THRESHOLD,
            num_instances=cfg.TEST.DETECTIONS_PER_IMAGE,
        ),
        device=choose_device(cfg.MODEL.DEVICE),
        cache_dir=cache_folder() / "text",
        mask_ensemble=build_mask_ensemble(cfg, model),
        augmentation=build_augmentation(cfg),
    )


def load_model(cfg: CfgNode, weights: str | Path) -> FrozenSeg | ClipAlone:
    """The model of a configuration with trained weights; only SAM needs none.

    Raises:
        UserError: the configuration or the weights do not allow it.
    """
    if cfg.MODEL.META_ARCHITECTURE == ONLY_SAM:
        keys = clip_keys(cfg)
        clip = load_clip(keys.CLIP_MODEL_NAME, keys.CLIP_PRETRAINED_WEIGHTS)
        return ClipAlone(clip=clip, size_divisibility=cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY)
    model = build_model(cfg)
    load_weights(model, weights, towers=cfg.MODEL.WEIGHTS_TOWERS)
    return model


def build_mask_ensemble(cfg: CfgNode, model: FrozenSeg | ClipAlone) -> MaskEnsemble | None:
    """SAM's part in semantic results (eq. 4); None where it is off."""
    keys = cfg.MODEL.MASK_ENSEMBLE
    if not (keys.ENABLED or cfg.MODEL.META_ARCHITECTURE == ONLY_SAM):
        return None
    source = build_mask_source(cfg, sam=model.sam if _is_same_sam(cfg) else None)
    return MaskEnsemble(source, epsilon=keys.EPSILON, threshold=keys.THRESHOLD)


def build_mask_source(cfg: CfgNode, *, sam: SamTower | None = None) -> MaskSource:
    """SAM's masks of any image, kept on the disk; SAM is loaded when they are not there.

    Args:
        sam: the configured one, if it is at hand.
    """

    def build() -> tuple[MaskSource, str]:
        return build_mask_generator(cfg, sam=sam)

    return CachedMasks(build_mask_cache(cfg), build)


def build_mask_generator(
    cfg: CfgNode, *, sam: SamTower | None = None
) -> tuple[SamMaskGenerator, str]:
    """What makes SAM's masks, and the fingerprint of SAM's weights."""
    keys = cfg.MODEL.MASK_ENSEMBLE
    tower = load_sam(keys.SAM_NAME, keys.SAM_WEIGHTS) if sam is None else sam
    tower = tower.to(choose_device(cfg.MODEL.DEVICE))
    generator = SamMaskGenerator(
        tower, settings=mask_settings(cfg), points_per_batch=keys.POINTS_PER_BATCH
    )
    return generator, tower.fingerprint


def build_mask_cache(cfg: CfgNode) -> MaskCache:
    """The folder that the configuration names, or one of its own for this SAM and settings."""
    keys, settings = cfg.MODEL.MASK_ENSEMBLE, mask_settings(cfg)
    folder = Path(keys.CACHE).expanduser()
    if not keys.CACHE:
        content = json.dumps([keys.SAM_NAME, keys.SAM_WEIGHTS, asdict(settings)])
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        folder = cache_folder() / "sam_masks" / f"{Path(keys.SAM_NAME).name}-{digest}"
    return MaskCache(folder, sam_name=_sam_name(cfg), settings=settings)


def mask_settings(cfg: CfgNode) -> MaskSettings:
    keys = cfg.MODEL.MASK_ENSEMBLE
    return MaskSettings(
        points_per_side=keys.POINTS_PER_SIDE,
        iou_threshold=keys.IOU_THRESHOLD,
        stability_threshold=keys.STABILITY_THRESHOLD,
        nms_threshold=keys.NMS_THRESHOLD,
        min_region_px=keys.MIN_REGION_PX,
        max_masks=keys.MAX_MASKS,
    )


def build_augmentation(cfg: CfgNode) -> Augmentation | None:
    """Variants of an image at test; None where there are none."""
    keys = cfg.TEST.AUG
    if not keys.ENABLED:
        return None
    if not keys.MIN_SIZES:
        raise ConfigError("TEST.AUG.MIN_SIZES is empty: give at least one short side in pixels")
    return Augmentation(short_sides=tuple(keys.MIN_SIZES), long_side=keys.MAX_SIZE, flip=keys.FLIP)


def _sam_name(cfg: CfgNode) -> str:
    """As the files of masks have it: with the weights, where they are not the published ones."""
    keys = cfg.MODEL.MASK_ENSEMBLE
    return "/".join(filter(None, (keys.SAM_NAME, keys.SAM_WEIGHTS)))


def _is_same_sam(cfg: CfgNode) -> bool:
    """Whether the model's own SAM makes the masks, too."""
    keys, model = cfg.MODEL.MASK_ENSEMBLE, cfg.MODEL
    return (keys.SAM_NAME, keys.SAM_WEIGHTS) == (model.SAM_NAME, model.SAM_WEIGHTS)
