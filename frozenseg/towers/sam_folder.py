"""A ``segment_anything`` Sam of any size, as ``sam.json`` (its sizes) and ``sam.safetensors``."""

from functools import partial
from pathlib import Path
from typing import Any

from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

from frozenseg.errors import UserError
from frozenseg.io.documents import read_json
from frozenseg.io.gates import parser_gate
from frozenseg.io.text import one_line
from frozenseg.io.weight_files import load_fitting
from frozenseg.towers.uninitialized import initialized

CONFIG_NAME = "sam.json"
MAX_CONFIG_BYTES = 1 << 20
ADVICE = "get the folder again"
WEIGHTS_NAME = "sam.safetensors"


def sam_from_config(config: dict[str, Any]) -> Sam:
    """Returns a Sam of these sizes, with random weights.

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
    """Returns the folder's Sam, in float32 and eval mode.

    Raises:
        UserError: a file of the folder is missing, damaged, or does not fit the other.
    """
    folder = Path(path)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise UserError(
                f"{one_line(folder)} is not a SAM folder: {name} is missing; give a folder "
                f"with {CONFIG_NAME} and {WEIGHTS_NAME}"
            )
    config = read_json(folder / CONFIG_NAME, max_bytes=MAX_CONFIG_BYTES)
    with (
        parser_gate(folder / CONFIG_NAME, expected="a SAM config", advice=ADVICE),
        initialized(not with_weights),
    ):
        sam = sam_from_config(config)
    if with_weights:
        load_fitting(sam, folder / WEIGHTS_NAME, owner=CONFIG_NAME)
    return sam.float().eval()
