"""Loads the CLIP towers of a configuration: of the proposer, and of the region classifier."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fvcore.common.config import CfgNode

from frozenseg.config import ConfigError
from frozenseg.io.downloads import MissingFile, all_present
from frozenseg.towers.clip import ClipTower
from frozenseg.towers.clip_vit import CropClip, check_prompt_depth
from frozenseg.towers.loading import (
    RANDOM,
    clip_file,
    has_maps,
    is_published_clip,
    load_clip,
    sam_file,
)
from frozenseg.towers.vit_loading import load_crop_clip

AnyClip = ClipTower | CropClip


class Clips(NamedTuple):
    """The towers of both members; one tower if they share it."""

    proposer: AnyClip  # embeds the class names for the proposer; FrozenSeg's is its backbone too
    regions: AnyClip  # embeds regions, and the class names to compare them with


def load_clips(
    cfg: CfgNode,
    *,
    clip: AnyClip | None = None,
    stored: bool = False,
    prompts_optional: bool = False,
) -> Clips:
    """Loads the towers that the configured members need.

    Args:
        cfg: the configuration.
        clip: pre-built tower of the proposer.
        stored: the region classifier's weights will be loaded from ``MODEL.WEIGHTS``; its tower
            starts with random ones then, so that nothing is downloaded in vain.
        prompts_optional: weights without mask prompts are no error; there are none then.

    Raises:
        UserError: a tower cannot be loaded.
        ConfigError: a tower does not fit the member that uses it.
    """
    keys, own = cfg.MODEL.PIPELINE, clip_keys(cfg)
    depth = cfg.MODEL.OVSEG.PROMPT_DEPTH if keys.REGION_CLASSIFIER == "masked_crops" else 0
    regions = None
    if keys.REGION_CLIP_NAME:
        weights = RANDOM if stored else keys.REGION_CLIP_WEIGHTS
        with _naming_key("MODEL.PIPELINE.REGION_CLIP_WEIGHTS"):
            regions = _load(cfg, keys.REGION_CLIP_NAME, weights, depth, prompts_optional)
        if keys.PROPOSER == "sam_points" and clip is None:
            clip = regions  # it does not classify, and needs no CLIP
    elif clip is None:
        prompts_optional = prompts_optional or keys.REGION_CLASSIFIER != "masked_crops"
        weights = RANDOM if stored else own.CLIP_PRETRAINED_WEIGHTS
        with _naming_key(_own_key(cfg)):
            clip = regions = _load(cfg, own.CLIP_MODEL_NAME, weights, depth, prompts_optional)
    if clip is None:
        name, weights = own.CLIP_MODEL_NAME, own.CLIP_PRETRAINED_WEIGHTS
        with _naming_key(_own_key(cfg)):
            clip = _load(cfg, name, weights, prompts_optional=True)
    regions = clip if regions is None else regions
    if stored:  # the name of the tower that it was trained from
        published = (
            keys.REGION_CLIP_WEIGHTS if keys.REGION_CLIP_NAME else own.CLIP_PRETRAINED_WEIGHTS
        )
        regions.name = regions.name.replace(f"/{RANDOM}", f"/{published}")
    if isinstance(regions, ClipTower) and depth:
        check_prompt_depth(regions.model.visual, depth, regions.name)
    return Clips(clip, regions)


def load_backbone(cfg: CfgNode) -> ClipTower:
    """Loads the tower that is FrozenSeg's backbone."""
    keys = clip_keys(cfg)
    with _naming_key(_own_key(cfg)):
        return load_clip(
            keys.CLIP_MODEL_NAME,
            keys.CLIP_PRETRAINED_WEIGHTS,
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            pixel_std=cfg.MODEL.PIXEL_STD,
        )


def check_tower_files(cfg: CfgNode) -> None:
    """Finds the files of FrozenSeg's towers before any is read; those that are there are kept.

    Raises:
        UserError: files are neither here nor can be downloaded; one sentence names all of them.
    """
    keys = clip_keys(cfg)
    clip, clip_weights = keys.CLIP_MODEL_NAME, keys.CLIP_PRETRAINED_WEIGHTS
    if cfg.MODEL.PIPELINE.PROPOSER != "mask2former" or not is_published_clip(clip, clip_weights):
        return
    sam = cfg.MODEL.META_ARCHITECTURE == "FrozenSeg"
    clip_search = _naming_key(_own_key(cfg))(clip_file)
    all_present(
        lambda: clip_search(clip, clip_weights),
        lambda: sam_file(cfg.MODEL.SAM_NAME, cfg.MODEL.SAM_WEIGHTS) if sam else None,
    )


def as_map_tower(clip: AnyClip, member: str) -> ClipTower:
    """Returns a tower that a member needs maps of.

    Raises:
        ConfigError: its image encoder is a ViT.
    """
    if isinstance(clip, ClipTower):
        return clip
    raise ConfigError(
        f"{member} needs the maps of a ConvNeXt or ResNet CLIP, but {clip.name} is a ViT: set "
        "CLIP_MODEL_NAME or MODEL.PIPELINE.REGION_CLIP_NAME to one, or choose masked_crops"
    )


def clip_keys(cfg: CfgNode) -> CfgNode:
    """Returns the keys of the CLIP tower and its ensemble; FC-CLIP files use another section."""
    return cfg.MODEL[_clip_section(cfg)]


def with_random_towers(cfg: CfgNode) -> CfgNode:
    """Returns a configuration that downloads and reads nothing."""
    cfg = cfg.clone()
    cfg.defrost()
    clip_keys(cfg).CLIP_PRETRAINED_WEIGHTS = cfg.MODEL.SAM_WEIGHTS = RANDOM
    cfg.MODEL.PIPELINE.REGION_CLIP_WEIGHTS = RANDOM
    cfg.MODEL.BACKBONE.WEIGHTS = ""
    return cfg


def _load(
    cfg: CfgNode, name: str, weights: str, depth: int = 0, prompts_optional: bool = False
) -> AnyClip:
    mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    if has_maps(name):
        return load_clip(name, weights, pixel_mean=mean, pixel_std=std)
    return load_crop_clip(name, weights, mask_prompt_depth=depth, prompts_optional=prompts_optional)


def _clip_section(cfg: CfgNode) -> str:
    return "FC_CLIP" if cfg.MODEL.META_ARCHITECTURE == "FCCLIP" else "FROZEN_SEG"


def _own_key(cfg: CfgNode) -> str:
    return f"MODEL.{_clip_section(cfg)}.CLIP_PRETRAINED_WEIGHTS"


@contextmanager
def _naming_key(key: str) -> Iterator[None]:
    """Names the key that can be set to a path if weights are missing."""
    try:
        yield
    except MissingFile as error:
        raise error.located(error.place, key) from error
