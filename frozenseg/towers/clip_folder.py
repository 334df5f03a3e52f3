"""An open_clip model whose image encoder is a small ConvNeXt, as a folder.

The folder holds ``open_clip_config.json`` (open_clip's ``model_cfg``, and under ``timm_convnext``
the sizes of the ConvNeXt, which timm does not know by name), ``open_clip_model.safetensors`` and
``bpe.txt.gz``, a prefix of the merge list of CLIP's own tokenizer.
"""

import warnings
from pathlib import Path
from typing import Any

import timm.models.convnext
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from timm.models import register_model
from torch import nn

from frozenseg.errors import UserError
from frozenseg.io.documents import read_json
from frozenseg.io.gates import parser_gate
from frozenseg.io.text import one_line
from frozenseg.io.weight_files import load_fitting
from frozenseg.towers.uninitialized import initialized

CONFIG_NAME = "open_clip_config.json"
MAX_CONFIG_BYTES = 1 << 20
ADVICE = "get the folder again"
WEIGHTS_NAME = "open_clip_model.safetensors"
MERGES_NAME = "bpe.txt.gz"


def register_convnext(
    name: str, depths: tuple[int, ...], dims: tuple[int, ...], **options: Any
) -> None:
    """Registers a ConvNeXt of these sizes with timm; ``options`` are timm's own."""
    sizes = {"depths": tuple(depths), "dims": tuple(dims), **options}

    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        kwargs["pretrained_cfg"] = timm.models.convnext._cfg()  # there is no file to download
        return timm.models.convnext._create_convnext(name, pretrained=pretrained, **sizes, **kwargs)

    build.__name__ = name
    with warnings.catch_warnings():  # registering a name again, with other sizes, is intended
        warnings.simplefilter("ignore", UserWarning)
        register_model(build)


def is_convnext(folder: Path) -> bool:
    """Returns True if the folder's config has the sizes of a ConvNeXt, or cannot be read."""
    try:
        config = read_json(folder / CONFIG_NAME, max_bytes=MAX_CONFIG_BYTES)
    except UserError:
        return True  # loading it says what is wrong
    return not isinstance(config, dict) or "timm_convnext" in config


def build_clip(config: dict[str, Any]) -> CLIP:
    """Returns the open_clip model that a folder's config describes, with random weights."""
    name = config["model_cfg"]["vision_cfg"]["timm_model_name"]
    register_convnext(name, **config["timm_convnext"])
    return CLIP(**config["model_cfg"])


def load_tokenizer(folder: Path, config: dict[str, Any]) -> SimpleTokenizer:
    """Returns the folder's tokenizer; it encodes any text, and cuts long ones off."""
    context_length = config["model_cfg"]["text_cfg"]["context_length"]
    return SimpleTokenizer(bpe_path=str(folder / MERGES_NAME), context_length=context_length)


def read_folder_config(folder: Path) -> Any:
    """Returns the config of a folder that has all files of a CLIP, with a ConvNeXt or a ViT.

    Raises:
        UserError: a file is missing, or the config cannot be read.
    """
    for name in (CONFIG_NAME, WEIGHTS_NAME, MERGES_NAME):
        if not (folder / name).is_file():
            raise UserError(
                f"{one_line(folder)} is not a CLIP folder: {name} is missing; give a folder with "
                f"{CONFIG_NAME}, {WEIGHTS_NAME} and {MERGES_NAME}"
            )
    return read_json(folder / CONFIG_NAME, max_bytes=MAX_CONFIG_BYTES)


def load_clip_folder(
    path: str | Path, *, with_weights: bool = True
) -> tuple[CLIP, SimpleTokenizer]:
    """Returns the folder's model, in float32 and eval mode, and its tokenizer.

    Raises:
        UserError: a file of the folder is missing, damaged, or does not fit the others.
    """
    folder = Path(path)
    config = read_folder_config(folder)
    with (
        parser_gate(folder / CONFIG_NAME, expected="a CLIP config", advice=ADVICE),
        initialized(not with_weights),
    ):
        model = build_clip(config)
    with parser_gate(folder / MERGES_NAME, expected="a merge list", advice=ADVICE):
        tokenizer = load_tokenizer(folder, config)
    if with_weights:
        load_fitting(model, folder / WEIGHTS_NAME, owner=CONFIG_NAME)
    return model.float().eval(), tokenizer
