"""Loading the CLIP tower of OVSeg by name, file or folder."""

from collections.abc import Mapping
from pathlib import Path

import open_clip
from open_clip.pretrained import get_pretrained_cfg
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.io.files import is_file, is_folder
from frozenseg.io.gates import parser_gate
from frozenseg.io.weight_files import read_weights
from frozenseg.towers.clip_folder import (
    ADVICE,
    CONFIG_NAME,
    MERGES_NAME,
    WEIGHTS_NAME,
    load_tokenizer,
    read_folder_config,
)
from frozenseg.towers.clip_vit import PROMPTS, CropClip
from frozenseg.towers.loading import (
    RANDOM,
    clip_file,
    clip_path,
    open_clip_config,
    split_revision,
)
from frozenseg.towers.uninitialized import initialized

IN_OVSEG = "clip_adapter.clip_model."  # before the names of CLIP in a whole OVSeg checkpoint
NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # in files of OpenAI's format


def load_crop_clip(
    name: str,
    pretrained: str,
    *,
    mask_prompt_depth: int = 0,
    new_prompts: bool = False,
    prompts_optional: bool = False,
) -> CropClip:
    """Loads a CLIP that embeds crops.

    Args:
        name: an open_clip model such as ``ViT-B-16``; ``shapes_vit``, the miniature that ships with
            the package; or a folder with ``open_clip_config.json``,
            ``open_clip_model.safetensors`` and ``bpe.txt.gz``.
        pretrained: open_clip's tag of published weights such as ``openai``; a file: a CLIP after
            fine-tuning or mask prompt tuning, or a whole OVSeg checkpoint; or ``random``. A folder
            has its own weights, which a file and ``random`` override; a tag does not.
        mask_prompt_depth: of the mask prompts, which the weights must hold; 0: none.
        new_prompts: draw prompts where the weights have none, to start mask prompt tuning.
        prompts_optional: have no prompts where the weights or the depth have none, for a tower
            that embeds text beside a proposer in training.

    Raises:
        UserError: an unknown name or tag, a missing file, or weights that do not fit.
    """
    folder = clip_path(name)
    if is_folder(folder):
        tower = _folder_tower(folder, name, pretrained, mask_prompt_depth)
        path = None if pretrained == RANDOM else _folder_weights(folder, pretrained)
    else:
        tower = _named_tower(name, pretrained, mask_prompt_depth)
        path = None if pretrained == RANDOM else clip_file(name, pretrained)
    if path is not None:
        state = clip_weights(read_weights(path).tensors)
        if prompts_optional and PROMPTS not in state:
            tower.mask_prompts = None
        if prompts_optional and tower.mask_prompts is None:
            state.pop(PROMPTS, None)
        tower.load_published(state, source=str(path), new_prompts=new_prompts)
    return tower


def clip_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the CLIP of a file under OpenAI's names, taken out of a whole OVSeg checkpoint."""
    if any(name.startswith(IN_OVSEG) for name in tensors):
        tensors = {
            name.removeprefix(IN_OVSEG): value
            for name, value in tensors.items()
            if name.startswith(IN_OVSEG)
        }
    return {name: value for name, value in tensors.items() if name not in NO_WEIGHTS}


def _named_tower(name: str, pretrained: str, depth: int) -> CropClip:
    config = open_clip_config(name)
    published = get_pretrained_cfg(name, split_revision(name, pretrained)[0]) if pretrained else {}
    if published:  # a file is a relative of OpenAI's weights, whose GELU ``config`` has by now
        config["quick_gelu"] = bool(published.get("quick_gelu"))
    tokenize = open_clip.get_tokenizer(name)
    with initialized(pretrained == RANDOM):
        model = open_clip.CLIP(**config)
    return CropClip(model, tokenize=tokenize, mask_prompt_depth=depth, name=f"{name}/{pretrained}")


def _folder_weights(folder: Path, pretrained: str) -> Path:
    """Returns the file that overrides a folder's weights, else the folder's own."""
    file = Path(pretrained).expanduser()
    if file.suffix and not is_file(file):
        raise UserError(
            f"no file {pretrained} with weights for the CLIP in {folder}: check its path"
        )
    return file if is_file(file) else folder / WEIGHTS_NAME


def _folder_tower(folder: Path, name: str, pretrained: str, depth: int) -> CropClip:
    config = read_folder_config(folder)
    with (
        parser_gate(folder / CONFIG_NAME, expected="the config of a ViT CLIP", advice=ADVICE),
        initialized(pretrained == RANDOM),
    ):
        model = open_clip.CLIP(**config["model_cfg"])
    with parser_gate(folder / MERGES_NAME, expected="a merge list", advice=ADVICE):
        tokenize = load_tokenizer(folder, config)
    return CropClip(model.float(), tokenize=tokenize, mask_prompt_depth=depth, name=name)
