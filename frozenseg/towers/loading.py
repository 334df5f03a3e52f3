"""Frozen towers by name, file or folder: CLIP from open_clip, SAM from its publishers."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
from open_clip.modified_resnet import ModifiedResNet
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.io.downloads import MissingFile, Published, obtain
from frozenseg.io.files import cache_folder, is_file, is_folder, user_path
from frozenseg.io.hub import hub_file
from frozenseg.io.text import quoted
from frozenseg.io.weight_files import assign_weights, describe_differences, read_weights
from frozenseg.towers import clip_folder, sam_folder
from frozenseg.towers.clip import (
    PIXEL_MEAN,
    PIXEL_STD,
    ClipTower,
    ConvNeXtClip,
    ResNetClip,
    Tokenize,
)
from frozenseg.towers.sam import SamTower
from frozenseg.towers.tiny_vit import build_sam_vit_t
from frozenseg.towers.uninitialized import initialized

SHAPES = Path(__file__).resolve().parent.parent / "weights" / "shapes"
SHAPES_CLIPS = {"shapes": SHAPES / "clip", "shapes_vit": SHAPES / "clip_vit"}
RANDOM = "random"  # in place of weights: a tower as it is initialized, for sizes and speed

HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
META = "https://dl.fbaipublicfiles.com/segment_anything/"
MOBILE_SAM = (
    "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
    "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt"
)

# The six digits in Meta's file names begin their MD5; these are SHA-256.
SAM_FILES = {
    "vit_t": Published(
        MOBILE_SAM,
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
    "vit_b": Published(
        f"{META}sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "vit_l": Published(
        f"{META}sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_h": Published(
        f"{META}sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
}
SAM_BUILDERS: dict[str, Callable[[], Sam]] = {
    "vit_t": build_sam_vit_t,
    **{name: sam_model_registry[name] for name in ("vit_b", "vit_l", "vit_h")},
}
# the classifier of TinyViT's pre-training, which MobileSAM's file still holds
UNUSED = ("image_encoder.norm_head.", "image_encoder.head.")


def load_clip(
    name: str,
    pretrained: str,
    *,
    pixel_mean: Sequence[float] = PIXEL_MEAN,
    pixel_std: Sequence[float] = PIXEL_STD,
) -> ClipTower:
    """Returns a CLIP tower with its weights.

    Args:
        name: a ConvNeXt or ResNet CLIP of open_clip (``convnext_large_d_320``, ``RN50x64``);
            ``shapes``, the miniature that ships with the package; or a folder of the same kind.
        pretrained: open_clip's tag of published weights, ``tag@revision`` for a commit of their
            repository, a local file, or ``random``. A folder has its own weights, unless
            ``random`` is requested.
        pixel_mean: of RGB in 0..255, as the tower was trained.
        pixel_std: of RGB in 0..255, as the tower was trained.

    Raises:
        UserError: an unknown name or tag, an unsupported image encoder, a file that is missing,
            damaged or of another model.
    """
    normalization = {"pixel_mean": tuple(pixel_mean), "pixel_std": tuple(pixel_std)}
    folder = clip_path(name)
    if is_folder(folder):
        model, tokenize = clip_folder.load_clip_folder(folder, with_weights=pretrained != RANDOM)
        return clip_tower(model, tokenize=tokenize, name=name, **normalization)
    config = open_clip_config(name)
    path = None if pretrained == RANDOM else clip_file(name, pretrained)
    with initialized(path is None):
        model = open_clip.CLIP(**config)
    if path:
        _load(model, path, owner=f"CLIP_MODEL_NAME {name}")
    tokenize = open_clip.get_tokenizer(name)
    return clip_tower(model, tokenize=tokenize, name=f"{name}/{pretrained}", **normalization)


def has_maps(name: str) -> bool:
    """Returns False for a CLIP whose image encoder is a ViT, which embeds whole crops alone.

    A name or folder that cannot be read counts as one with maps; loading it says what is wrong.
    """
    folder = clip_path(name)
    if is_folder(folder):
        return clip_folder.is_convnext(folder)
    vision = (open_clip.get_model_config(name) or {}).get("vision_cfg", {})
    return not vision or "timm_model_name" in vision or isinstance(vision.get("layers"), list)


def clip_path(name: str) -> Path:
    """Returns the folder of a miniature, or the path that a name may be of a folder."""
    return SHAPES_CLIPS.get(name) or user_path(name)


def clip_tower(
    model: nn.Module, *, tokenize: Tokenize, name: str, **normalization: tuple[float, ...]
) -> ClipTower:
    """Returns the tower class that supports this open_clip model's image encoder.

    Args:
        model: an open_clip model.
        tokenize: prompts to token ids.
        name: what messages and checkpoints call the tower.
        normalization: ``pixel_mean`` and ``pixel_std``, if they are not CLIP's.

    Raises:
        UserError: it is neither a ConvNeXt nor a ResNet.
    """
    visual = model.visual
    if isinstance(visual, ModifiedResNet):
        kind = ResNetClip
    elif isinstance(getattr(visual, "trunk", None), ConvNeXt):
        kind = ConvNeXtClip
    else:
        raise UserError(
            f"CLIP_MODEL_NAME {name} has a {type(visual).__name__} image encoder: choose a "
            "ConvNeXt or ResNet CLIP, whose maps have strides 4 to 32"
        )
    tower = kind(model, tokenize=tokenize, **normalization)
    tower.name = name
    return tower


def load_sam(name: str, weights: str = "") -> SamTower:
    """Returns a SAM tower with its weights.

    Args:
        name: ``vit_t`` (MobileSAM), ``vit_b``, ``vit_l`` or ``vit_h``; ``shapes``, the miniature
            that ships with the package; or a folder of the same kind.
        weights: a local file, or ``random``; empty takes the published file, from the cache folder
            if it is there.

    Raises:
        UserError: an unknown name, a failed download or one with a wrong hash, a file that is
            damaged or of another model.
    """
    folder = SHAPES if name == "shapes" else user_path(name)
    if name == "shapes" or is_folder(folder):
        model = sam_folder.load_sam_folder(folder, with_weights=weights != RANDOM)
        return _sam_tower(model, name)
    if name not in SAM_BUILDERS:
        choices = ", ".join([*SAM_BUILDERS, "shapes"])
        raise UserError(
            f"no SAM named {quoted(name)}: set MODEL.SAM_NAME to one of {choices}, or to a folder"
        )
    path = sam_file(name, weights)
    with initialized(path is None):
        model = SAM_BUILDERS[name]()
    if path:
        _load(model, path, owner=f"MODEL.SAM_NAME '{name}'")
    return _sam_tower(model, f"{name}/{RANDOM}" if weights == RANDOM else name)


def _sam_tower(model: Sam, name: str) -> SamTower:
    tower = SamTower(model)
    tower.name = name
    return tower


def open_clip_config(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        near = difflib.get_close_matches(name[:200], open_clip.list_models(), n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UserError(
            f"no CLIP named {quoted(name)}: {hint}Give an open_clip name, 'shapes' or a folder"
        )
    # OpenAI's weights and their relatives were trained with QuickGELU, which open_clip's plain
    # names do not imply
    tags = list_pretrained_tags_by_model(name)
    if any(get_pretrained_cfg(name, tag).get("quick_gelu") for tag in tags):
        config["quick_gelu"] = True
    if config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]:
        raise UserError(f"CLIP_MODEL_NAME {name} has a text encoder that this model does not offer")
    return config


def split_revision(name: str, pretrained: str) -> tuple[str, str | None]:
    """Returns the tag and the revision of ``tag@revision``; a file's path has no revision."""
    tag, at, revision = pretrained.partition("@")
    if at and get_pretrained_cfg(name, tag):
        return tag, revision
    return pretrained, None


def is_published_clip(name: str, pretrained: str) -> bool:
    """Returns True for a tag of open_clip's published weights, with or without a revision."""
    tag, _ = split_revision(name, pretrained)
    return not is_folder(user_path(name)) and bool(tag and get_pretrained_cfg(name, tag))


def clip_file(name: str, pretrained: str) -> Path:
    """Returns the file of weights that a tag, ``tag@revision`` or a path names.

    Raises:
        MissingFile: it is neither here nor can be downloaded.
        UserError: there is no such tag or file.
    """
    tag, revision = split_revision(name, pretrained)
    published = get_pretrained_cfg(name, tag) if tag else {}
    if not published:
        path = user_path(pretrained)
        if pretrained and (is_file(path) or path.suffix or len(path.parts) > 1):
            return path
        tags = ", ".join(list_pretrained_tags_by_model(name))
        raise UserError(
            f"CLIP_PRETRAINED_WEIGHTS {quoted(pretrained)} is neither a tag of {name} ({tags}) nor "
            "a file: give one of them"
        )
    own = cache_folder() / "clip" / f"{name}-{pretrained.replace('/', '-')}.safetensors"
    if is_file(own):
        return own
    try:
        return hub_file(published["hf_hub"].rstrip("/"), HUB_FILES, revision=revision)
    except MissingFile as error:
        raise error.located(own, "CLIP_PRETRAINED_WEIGHTS") from error


def sam_file(name: str, weights: str = "") -> Path | None:
    """Returns the file of SAM's weights; None for random ones, a folder, or the miniature.

    Args:
        name: as for ``load_sam``.
        weights: as for ``load_sam``.

    Raises:
        MissingFile: it is neither here nor can be downloaded.
    """
    if weights == RANDOM or name not in SAM_BUILDERS:
        return None
    if weights:
        return user_path(weights)
    return obtain(SAM_FILES[name], cache_folder() / "sam", setting="MODEL.SAM_WEIGHTS")


def _load(model: nn.Module, path: Path, *, owner: str) -> None:
    tensors = read_weights(path).tensors
    state = {name: value for name, value in tensors.items() if not name.startswith(UNUSED)}
    differences = describe_differences(model.state_dict(), state, limit=3)
    if differences:
        likely = _sam_variant(state)
        hint = (
            f"it looks like '{likely}', set it so"
            if likely
            else "choose the file that belongs to it"
        )
        raise UserError(f"{path} does not fit {owner} ({differences}): {hint}")
    assign_weights(model, state)


def _sam_variant(state: dict[str, Tensor]) -> str | None:
    """Returns the SAM that these weights are of, by the width of their position embedding."""
    if "image_encoder.patch_embed.seq.0.c.weight" in state:
        return "vit_t"
    positions = state.get("image_encoder.pos_embed")
    widths = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
    return None if positions is None else widths.get(positions.shape[-1])
