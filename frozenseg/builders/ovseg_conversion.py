"""Whole OVSeg systems from one layout of weights to the other, checked against a configuration."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.builders.clips import load_clips
from frozenseg.builders.model import model_outline, trained_part
from frozenseg.checkpoint import ovseg
from frozenseg.checkpoint.weights import load_state, open_weights, split_state, write_trained
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.weight_files import WeightsFile, first_names
from frozenseg.towers.clip_vit import PROMPTS, CropClip


def to_own_layout(source: Path, output: Path, cfg: CfgNode) -> None:
    """Writes an OVSeg file as safetensors: the proposer, and the CLIP if the file holds it.

    Raises:
        UserError: the file cannot be read, or is not of this configuration.
    """
    weights = open_weights(source)
    _check(weights, cfg, source=str(source))
    write_trained(_own_state(weights.tensors, source=str(source)), output, notes={})


def to_official_layout(
    source: Path, output: Path, cfg: CfgNode, *, with_towers: bool = True
) -> None:
    """Writes an OVSeg system as a ``.pth`` under official names.

    Args:
        source: our file or an official one.
        output: the file to write.
        cfg: the configuration of the weights.
        with_towers: add the configured CLIP if the file holds none.

    Raises:
        UserError: the file cannot be read, is not of this configuration, or holds what the official
            code has no place for.
    """
    weights = open_weights(source)
    _check(weights, cfg, source=str(source))
    state = _own_state(weights.tensors, source=str(source))
    if with_towers and not ovseg.holds_clip(state):
        clip = load_clips(cfg).regions
        if not isinstance(clip, CropClip):
            raise UserError(f"the official code has no place for the CLIP {clip.name}")
        state |= _named(clip.published_state())
    official, unknown = ovseg.to_official(
        state,
        num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        no_object_weight=cfg.MODEL.MASK_FORMER.NO_OBJECT_WEIGHT,
    )
    if unknown:
        raise UserError(f"the official code has no place for {first_names(unknown)}")
    with atomic_write(output) as part:
        torch.save({"model": {name: value.contiguous() for name, value in official.items()}}, part)


def _own_state(tensors: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Returns the system under our names, proposer and CLIP with their prefixes."""
    proposer = split_state(tensors, source=source).proposer
    named = {ovseg.PROPOSER + name: value for name, value in proposer.items()}
    return named | _named(ovseg.clip_of(tensors))


def _named(clip: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        ovseg.CLIP + ("mask_prompts" if name == PROMPTS else f"model.{name}"): value
        for name, value in clip.items()
    }


def _check(weights: WeightsFile, cfg: CfgNode, *, source: str) -> None:
    """Loads the weights into an outline, which checks every name and shape."""
    outline = model_outline(cfg)
    with warnings.catch_warnings():  # of PyTorch: an outline keeps no values
        warnings.simplefilter("ignore", UserWarning)
        load_state(trained_part(outline), weights, source=source)
        if ovseg.holds_clip(weights.tensors):
            ovseg.load_clip_of(outline, weights.tensors, source=source)
