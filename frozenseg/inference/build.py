"""The place where a configuration becomes a segmenter."""

import torch
from fvcore.common.config import CfgNode

from frozenseg.checkpoint.weights import load_weights
from frozenseg.data.catalog import dataset_vocabulary
from frozenseg.files import cache_folder
from frozenseg.inference.class_ensemble import ClassEnsemble
from frozenseg.inference.postprocess import Postprocess
from frozenseg.inference.segmenter import Segmenter
from frozenseg.modeling.build import build_model, clip_keys
from frozenseg.modeling.frozenseg import FrozenSeg


def build_segmenter(cfg: CfgNode, *, model: FrozenSeg | None = None) -> Segmenter:
    """The model of a configuration with its trained weights, ready to use.

    Args:
        model: one at hand, instead of a new one with the weights of ``MODEL.WEIGHTS``.
    """
    if model is None:
        model = build_model(cfg)
        load_weights(model, cfg.MODEL.WEIGHTS)
    keys, test = clip_keys(cfg), cfg.MODEL.MASK_FORMER.TEST
    return Segmenter(
        model=model,
        training=dataset_vocabulary(cfg.DATASETS.TRAIN[0]),
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
            object_threshold=test.OBJECT_MASK_THRESHOLD,
            overlap_threshold=test.OVERLAP_THRESHOLD,
            num_instances=cfg.TEST.DETECTIONS_PER_IMAGE,
        ),
        device=choose_device(cfg.MODEL.DEVICE),
        cache_dir=cache_folder() / "text",
    )


def choose_device(name: str) -> torch.device:
    """``auto`` is cuda where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
