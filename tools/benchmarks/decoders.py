"""Pixel decoder and transformer decoder of the published size, with random weights."""

from unittest.mock import patch

import torch
from torch import Tensor

from frozenseg.modeling import deformable_encoder
from frozenseg.modeling.deformable_encoder import DeformableEncoder
from frozenseg.modeling.pixel_decoder import PixelDecoder, PixelFeatures, SamBranch
from frozenseg.modeling.transformer_decoder import TransformerDecoder
from frozenseg.ops.maps import Size
from frozenseg.ops.ms_deform_attn.reference import reference_forward

from .frame import Stage

CHANNELS = (192, 384, 768, 1536)  # of ConvNeXt-L, res2 to res5
STRIDES = (4, 8, 16, 32)
DIM, SAM_CELLS = 256, 64
NUM_CLASSES = 150


def pixel_decoder(image_size: Size, batch: int = 1) -> Stage:
    """Deformable attention by its PyTorch definition, against the kernel."""
    branch = SamBranch(in_channels=DIM, dim=DIM, encoder=DeformableEncoder(dim=DIM))
    decoder = PixelDecoder(
        in_channels=CHANNELS,
        dim=DIM,
        mask_dim=DIM,
        encoder=DeformableEncoder(dim=DIM),
        sam_branch=branch,
    ).eval()
    maps, sam = zip(CHANNELS, STRIDES, strict=True), _noise(batch, (SAM_CELLS, SAM_CELLS))
    levels = tuple(_noise(batch, _cells(image_size, s), channels=c) for c, s in maps)

    def by_definition() -> Tensor:
        with patch.object(deformable_encoder, "ms_deform_attn", reference_forward):
            return decoder(levels, sam).mask_features

    return Stage(
        "pixel decoder, SAM branch",
        "reference operator",
        by_definition,
        lambda: decoder(levels, sam).mask_features,
    )


def transformer_decoder(image_size: Size, batch: int = 1) -> Stage:
    """Masks and class logits of all ten predictions, against those of the last."""
    decoder = TransformerDecoder().eval()
    levels = [_noise(batch, _cells(image_size, stride)) for stride in reversed(STRIDES[1:])]
    branch = _noise(batch, (SAM_CELLS // 2, SAM_CELLS // 2))
    pixels = PixelFeatures(_noise(batch, _cells(image_size, STRIDES[0])), levels, branch)
    sam = _noise(batch, (SAM_CELLS, SAM_CELLS))
    rows = torch.randn(768, NUM_CLASSES)

    def last_masks(*, every_layer: bool) -> Tensor:
        found = decoder(pixels, sam, lambda each: each @ rows, every_layer=every_layer)
        return found[-1].mask_logits

    return Stage(
        "transformer decoder",
        "every layer predicts",
        lambda: last_masks(every_layer=True),
        lambda: last_masks(every_layer=False),
    )


def _cells(image_size: Size, stride: int) -> Size:
    return image_size[0] // stride, image_size[1] // stride


def _noise(batch: int, size: Size, *, channels: int = DIM) -> Tensor:
    return torch.randn(batch, channels, *size)
