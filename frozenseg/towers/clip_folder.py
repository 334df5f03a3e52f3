"""An open_clip model whose image encoder is a small ConvNeXt, as a folder.

The folder holds ``open_clip_config.json`` (open_clip's ``model_cfg``, and under ``timm_convnext``
the sizes of the ConvNeXt, which timm does not know by name), ``open_clip_model.safetensors`` and
``bpe.txt.gz``, a prefix of the merge list of CLIP's own tokenizer.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import timm.models.convnext
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from timm.models import register_model
from torch import nn

from frozenseg.errors import UserError

CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAME = "open_clip_model.safetensors"
MERGES_NAME = "bpe.txt.gz"


def register_convnext(
    name: str, depths: tuple[int, ...], dims: tuple[int, ...], **options: Any
) -> None:
    """Makes timm build a ConvNeXt of these sizes for ``name``; ``options`` are timm's own."""
    sizes = {"depths": tuple(depths), "dims": tuple(dims), **options}

    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        kwargs["pretrained_cfg"] = timm.models.convnext._cfg()  # no download belongs to it
        return timm.models.convnext._create_convnext(name, pretrained=pretrained, **sizes, **kwargs)

    build.__name__ = name
    with warnings.catch_warnings():  # the same name again, perhaps with other sizes, is meant
        warnings.simplefilter("ignore", UserWarning)
        register_model(build)


def build_clip(config: dict[str, Any]) -> CLIP:
    """The open_clip model that a folder's config describes, with random weights."""
    name = config["model_cfg"]["vision_cfg"]["timm_model_name"]
    register_convnext(name, **config["timm_convnext"])
    return CLIP(**config["model_cfg"])


def load_tokenizer(folder: Path, config: dict[str, Any]) -> SimpleTokenizer:
    """The folder's tokenizer; any word has tokens, longer texts are cut off."""
    context_length = config["model_cfg"]["text_cfg"]["context_length"]
    return SimpleTokenizer(bpe_path=str(folder / MERGES_NAME), context_length=context_length)


def load_clip_folder(
    path: str | Path, *, with_weights: bool = True
) -> tuple[CLIP, SimpleTokenizer]:
    """The folder's model, in float32 and eval mode, and its tokenizer.

    Raises:
        UserError: A file of the folder is missing.
    """
    folder = Path(path)
    for name in (CONFIG_NAME, WEIGHTS_NAME, MERGES_NAME):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} is no CLIP folder: {name} is missing; "
                "tools/pretrain_shapes_clip.py writes such a folder"
            )
    config = json.loads((folder / CONFIG_NAME).read_text())
    model = build_clip(config)
    if with_weights:
        model.load_state_dict(load_file(folder / WEIGHTS_NAME))
    return model.float().eval(), load_tokenizer(folder, config)
