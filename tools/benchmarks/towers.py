"""Both frozen encoders: SAM's in segment_anything's own attention, CLIP's in both layouts."""

import copy
from functools import partial

import torch
from torch import Tensor

from frozenseg.ops.maps import Size
from frozenseg.towers.blocked_attention import block_attention
from frozenseg.towers.clip import ConvNeXtClip
from frozenseg.towers.loading import RANDOM, SAM_BUILDERS, load_clip

from .frame import Stage

CLIP, SAM = "convnext_large_d_320", "vit_b"  # of the published FrozenSeg


def sam_encoder(_image_size: Size, batch: int = 1) -> Stage:
    """The attention of all tokens at once, against blocks of queries; images have SAM's size."""
    eager = SAM_BUILDERS[SAM]().eval().requires_grad_(False).image_encoder
    for name, parameter in eager.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.1)  # drawn as zeros, positions would not matter
    blocked = copy.deepcopy(eager)
    block_attention(blocked)
    side = eager.img_size
    square = torch.randn(batch, 3, side, side)
    return Stage(
        "SAM image encoder", "eager attention", partial(eager, square), partial(blocked, square)
    )


def clip_encoder(image_size: Size, batch: int = 1) -> Stage:
    """The layout of maps between the blocks of a ConvNeXt."""
    clip = load_clip(CLIP, RANDOM)
    assert isinstance(clip, ConvNeXtClip), "a ConvNeXt by name"
    images = torch.randn(batch, 3, *image_size)

    def channels_last() -> Tensor:
        return clip(images.contiguous(memory_format=torch.channels_last)).clip_map

    return Stage(
        "CLIP image encoder", "channels last", channels_last, lambda: clip(images).clip_map
    )
