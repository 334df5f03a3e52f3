"""Converts trained weights between our format and the official one, and checks each weight."""

from collections.abc import Mapping
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.builders import ovseg_conversion
from frozenseg.builders.clips import clip_keys, load_backbone
from frozenseg.builders.frozenseg import build_frozenseg, frozenseg_outline, uses_sam
from frozenseg.builders.model import model_outline
from frozenseg.builders.stored_weights import open_whole_weights
from frozenseg.checkpoint.light import BASE_NOTE, changed_weights
from frozenseg.checkpoint.members import check_members, fused_parts, has_scrambled_map, map_note
from frozenseg.checkpoint.weights import (
    TRAINED_NOTE,
    StoredParts,
    load_state,
    official_state,
    open_weights,
    split_state,
    tower_tensors,
    towers_of,
    trained_note,
    write_trained,
)
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.gates import reason_of
from frozenseg.io.text import one_line
from frozenseg.io.weight_files import WeightsFile, describe_differences
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.towers.frozen import fingerprint_of


def to_own_layout(source: Path, output: Path, cfg: CfgNode, *, light: bool = False) -> None:
    """Writes the trained weights of an official (or our own) file as safetensors.

    Towers that the configuration takes from its weights (``MODEL.WEIGHTS_TOWERS`` use) are stored,
    others are not. If the file holds whole towers, their fingerprints are stored with the weights,
    so that loading them with other towers fails.

    Args:
        source: a file of trained weights.
        output: the file to write.
        cfg: the configuration of the weights.
        light: store only those weights of CLIP that differ from the published one, which is loaded
            for this; otherwise no tower is loaded.

    Raises:
        UserError: the file cannot be read, or does not fit the configuration; or a light file is
            asked for and the configuration takes no CLIP from its weights.
    """
    if light and not stores_clip(cfg):
        raise UserError(
            "a light file holds what differs between a trained CLIP and the published one, but "
            "this configuration takes no CLIP from its weights: choose one with "
            "MODEL.WEIGHTS_TOWERS use, such as ovrcoat-convnext-large"
        )
    if cfg.MODEL.PIPELINE.PROPOSER == "maskformer":
        ovseg_conversion.to_own_layout(source, output, cfg)
        return
    weights = open_whole_weights(source, cfg)
    parts = split_state(weights.tensors, source=str(source))
    _write_checked(parts, output, cfg, source=str(source), notes=_map_note(weights), light=light)


def fuse_adapter(warmup: Path, decoder: Path, output: Path, cfg: CfgNode) -> None:
    """Writes the adapter of a warm-up and the decoder of another file as one, in our format.

    Args:
        warmup: of Mask-Adapter's training on annotated masks.
        decoder: of FC-CLIP, FrozenSeg or MAFT+; void and text transfer are taken, too.
        output: the file to write.
        cfg: the configuration of the whole system.

    Raises:
        UserError: a file cannot be read, lacks its part or belongs to another CLIP, or both do not
            fit the configuration.
    """
    sources = str(warmup), str(decoder)
    stored = [open_whole_weights(path, cfg) for path in sources]
    parts = [
        split_state(weights.tensors, source=path)
        for weights, path in zip(stored, sources, strict=True)
    ]
    fused = fused_parts(parts[0], parts[1], sources=sources)
    source, notes = " and ".join(sources), _map_note(stored[1])
    _write_checked(fused, output, cfg, source=source, notes=notes)


def check_fits(source: Path, cfg: CfgNode) -> None:
    """Compares names and shapes of a file's weights with a configuration; loads no tower.

    Raises:
        UserError: the file cannot be read, or does not fit the configuration.
    """
    weights = open_weights(source)
    parts = split_state(weights.tensors, source=str(source))
    if cfg.MODEL.PIPELINE.PROPOSER == "mask2former":
        _checked_outline(parts, cfg, source=str(source))


def trained_weights(source: Path, cfg: CfgNode) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the trained weights of a file, checked against a configuration, and its notes.

    Raises:
        UserError: the file cannot be read, does not fit, or belongs to another system than
            FrozenSeg and FC-CLIP.
    """
    if cfg.MODEL.PIPELINE.PROPOSER != "mask2former":
        raise UserError(
            "only models with MODEL.PIPELINE.PROPOSER mask2former can be saved as a folder: "
            "convert the weights of others with frozenseg convert"
        )
    weights = open_whole_weights(source, cfg)
    parts = split_state(weights.tensors, source=str(source))
    model = _checked_outline(parts, cfg, source=str(source))
    own = {**_names(cfg), **_fingerprints(model, parts.towers), **_map_note(weights)}
    towers = _stored_towers(parts, cfg)
    kept = {n: text for n, text in weights.notes.items() if n not in (TRAINED_NOTE, BASE_NOTE)}
    return parts.trained() | tower_tensors(towers), own | kept | trained_note(towers)


def stores_clip(cfg: CfgNode) -> bool:
    """Returns True if the CLIP of FrozenSeg's proposer is part of its weights."""
    return cfg.MODEL.PIPELINE.PROPOSER == "mask2former" and cfg.MODEL.WEIGHTS_TOWERS == "use"


def _stored_towers(parts: StoredParts, cfg: CfgNode) -> dict[str, dict[str, Tensor]]:
    """Returns the towers that are stored with the weights, because they are taken from there."""
    return dict(parts.towers) if stores_clip(cfg) else {}


def _map_note(weights: WeightsFile) -> dict[str, str]:
    return map_note(scrambled=has_scrambled_map(weights))


def _checked_outline(parts: StoredParts, cfg: CfgNode, *, source: str) -> FrozenSeg:
    """Checks every weight against the configuration's outline, and returns that of the proposer."""
    check_members(model_outline(cfg), parts, source=source)
    model = frozenseg_outline(cfg, parts.proposer)
    load_state(model, WeightsFile(parts.proposer, {}), source=source, towers="skip")
    return model


def _write_checked(
    parts: StoredParts,
    output: Path,
    cfg: CfgNode,
    *,
    source: str,
    notes: Mapping[str, str] | None = None,
    light: bool = False,
) -> None:
    """Checks every weight against the configuration's outline and writes our format."""
    model = _checked_outline(parts, cfg, source=source)
    towers = _stored_towers(parts, cfg)
    about = {**_names(cfg), **_fingerprints(model, parts.towers), **trained_note(towers)}
    if light:
        base = load_backbone(cfg)
        towers["clip"] = changed_weights(towers.get("clip", {}), base, source=source)
        whole = {**base.model.state_dict(), **towers["clip"]}
        about |= {BASE_NOTE: base.fingerprint, "clip": fingerprint_of(whole)}
    write_trained(parts.trained() | tower_tensors(towers), output, notes={**about, **(notes or {})})


def to_official_layout(
    source: Path, output: Path, cfg: CfgNode, *, with_towers: bool = True
) -> None:
    """Writes trained weights under official names, as a ``.pth`` that the official code reads.

    Args:
        source: a file of trained weights.
        output: the file to write.
        cfg: the configuration of the weights.
        with_towers: include the frozen towers, which the official code otherwise downloads.

    Raises:
        UserError: the file cannot be read, does not fit the configuration, or holds weights that
            the official code has no place for; or ``output`` cannot be written.
    """
    if cfg.MODEL.PIPELINE.PROPOSER == "maskformer":
        ovseg_conversion.to_official_layout(source, output, cfg, with_towers=with_towers)
        return
    weights = open_whole_weights(source, cfg)
    if with_towers:
        model = build_frozenseg(cfg, weights=weights.tensors)
    else:
        model = _with_trained_parts(cfg, weights.tensors)
    parts = split_state(weights.tensors, source=str(source))
    check_members(model_outline(cfg), parts, source=str(source))
    towers = "use" if cfg.MODEL.WEIGHTS_TOWERS == "use" else "compare"
    load_state(model, weights, source=str(source), towers=towers if with_towers else "skip")
    state = official_state(
        model,
        num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        no_object_weight=cfg.MODEL.MASK_FORMER.NO_OBJECT_WEIGHT,
        with_towers=with_towers,
        members=parts.members,
    )
    content = {"model": {name: value.contiguous() for name, value in state.items()}}
    with atomic_write(output) as part:
        try:
            torch.save(content, part)
        except (OSError, RuntimeError) as error:  # a full disk is a RuntimeError of the zip writer
            raise UserError(
                f"{one_line(output)} cannot be written ({reason_of(error)}): free some space or "
                "choose another folder"
            ) from error


def _with_trained_parts(cfg: CfgNode, weights: Mapping[str, Tensor]) -> FrozenSeg:
    """Returns the outline with memory for the trained weights."""
    model = frozenseg_outline(cfg, weights)
    for name, part in model.named_children():
        if name not in ("backbone", "sam"):
            part.to_empty(device="cpu")
    model.logit_scale = torch.nn.Parameter(torch.empty(()))
    return model


def _names(cfg: CfgNode) -> dict[str, str]:
    keys = clip_keys(cfg)
    names = {"clip_name": f"{keys.CLIP_MODEL_NAME}/{keys.CLIP_PRETRAINED_WEIGHTS}"}
    return names | ({"sam_name": cfg.MODEL.SAM_NAME} if uses_sam(cfg) else {})


def _fingerprints(model: FrozenSeg, towers: Mapping[str, Mapping[str, Tensor]]) -> dict[str, str]:
    whole = {
        key: state
        for key, state in towers.items()
        if not describe_differences(towers_of(model)[key].model.state_dict(), state)
    }
    return {key: fingerprint_of(state) for key, state in whole.items()}
