"""Colour jitter as in SSD (Liu et al., ECCV 2016)."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

HUE_STEPS = 256  # of Pillow's colour circle


@dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Changes brightness, contrast, saturation and hue, each with probability 1/2.

    Brightness comes first; contrast is changed before or after saturation and hue, with equal
    probability. Values are clipped to 0..255.

    Args:
        brightness: largest shift of all channels, in 0..255.
        contrast: least and largest factor of all channels.
        saturation: least and largest factor of the saturation.
        hue_degrees: largest turn of the colour circle.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue_degrees: float = 36.0

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Returns a changed (3, H, W) uint8 RGB image; the generator's state decides everything."""
        shift = _maybe(generator, -self.brightness, self.brightness, neutral=0.0)
        contrast = _maybe(generator, *self.contrast, neutral=1.0)
        saturation = _maybe(generator, *self.saturation, neutral=1.0)
        hue = _maybe(generator, -self.hue_degrees, self.hue_degrees, neutral=0.0)
        contrast_first = generator.random() < 0.5
        pixels = _scaled(image.numpy(), 1.0, shift)
        if contrast_first:
            pixels = _scaled(pixels, contrast, 0.0)
        pixels = _recoloured(pixels, saturation=saturation, hue_degrees=hue)
        if not contrast_first:
            pixels = _scaled(pixels, contrast, 0.0)
        return torch.from_numpy(pixels)


def _maybe(generator: np.random.Generator, low: float, high: float, *, neutral: float) -> float:
    """A number between ``low`` and ``high``, or ``neutral`` in every second case."""
    drawn = generator.uniform(low, high)
    return drawn if generator.random() < 0.5 else neutral


def _scaled(pixels: np.ndarray, factor: float, shift: float) -> np.ndarray:
    if (factor, shift) == (1.0, 0.0):
        return pixels
    table = np.arange(256) * factor + shift
    return table.clip(0, 255).astype(np.uint8)[pixels]


def _recoloured(pixels: np.ndarray, *, saturation: float, hue_degrees: float) -> np.ndarray:
    if (saturation, hue_degrees) == (1.0, 0.0):
        return pixels
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("HSV")
    values = np.array(picture)
    turn = round(hue_degrees / 360 * HUE_STEPS)
    values[..., 0] = (values[..., 0].astype(np.int32) + turn) % HUE_STEPS
    values[..., 1] = _scaled(values[..., 1], saturation, 0.0)
    changed = np.array(Image.fromarray(values, mode="HSV").convert("RGB"))
    return np.ascontiguousarray(changed.transpose(2, 0, 1))
