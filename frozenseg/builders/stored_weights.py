"""Reads the weights of a configuration, and completes those that build on a published CLIP."""

from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.builders.clips import load_backbone
from frozenseg.checkpoint.light import BASE_NOTE, with_base
from frozenseg.checkpoint.weights import open_weights
from frozenseg.io.weight_files import WeightsFile


def open_whole_weights(path: str | Path, cfg: CfgNode) -> WeightsFile:
    """Reads a file of weights; if it is a light one, adds the configured CLIP.

    Where towers of the file are not used (``MODEL.WEIGHTS_TOWERS``), nothing is added.

    Raises:
        UserError: the file cannot be read, or it builds on a CLIP that is another or missing.
    """
    weights = open_weights(path)
    if BASE_NOTE not in weights.notes or cfg.MODEL.WEIGHTS_TOWERS != "use":
        return weights
    return with_base(weights, load_backbone(cfg), source=str(path))
