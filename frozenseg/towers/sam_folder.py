"""A ``segment_anything`` Sam of any size, as ``sam.json`` (its sizes) and ``sam.safetensors``."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

from frozenseg.errors import UserError

CONFIG_NAME = "sam.json"
WEIGHTS_NAME = "sam.safetensors"


def sam_from_config(config: dict[str, Any]) -> Sam:
    """The Sam of these sizes, with random weights.

    ``config`` has ``image_size``, ``patch_size`` and ``out_channels``, and under ``encoder``,
    ``transformer`` and ``decoder`` what segment_anything's own constructors take.
    """
    image_size, channels = config["image_size"], config["out_channels"]
    cells = image_size // config["patch_size"]
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=image_size,
            patch_size=config["patch_size"],
            out_chans=channels,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),  # pyright: ignore[reportArgumentType]
            **config["encoder"],
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=channels,
            image_embedding_size=(cells, cells),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=channels,
            transformer=TwoWayTransformer(embedding_dim=channels, **config["transformer"]),
            **config["decoder"],
        ),
    )


def load_sam_folder(path: str | Path, *, with_weights: bool = True) -> Sam:
    """The folder's Sam, in float32 and eval mode.

    Raises:
        UserError: A file of the folder is missing.
    """
    folder = Path(path)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} holds no SAM: {name} is missing; tools/pretrain_shapes_sam.py writes it"
            )
    sam = sam_from_config(json.loads((folder / CONFIG_NAME).read_text()))
    if with_weights:
        sam.load_state_dict(load_file(folder / WEIGHTS_NAME))
    return sam.float().eval()
