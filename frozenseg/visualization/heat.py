"""Heat maps over images."""

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from frozenseg.visualization.layout import enlarged

# dark violet, magenta, orange, pale yellow: lightness increases, also for colour-blind readers
_RAMP = np.array([(8, 5, 30), (120, 28, 109), (237, 105, 37), (252, 255, 164)], dtype=np.float32)
_STRENGTH = (0.55, 0.9)  # opacity of the colours at the lowest and the highest value


def draw_heat(image: Tensor, values: Tensor) -> Image.Image:
    """Draws (h, w) values over the grey (3, H, W) image, scaled to their maximum."""
    picture = enlarged(image.permute(1, 2, 0).cpu().numpy())
    size = (picture.height, picture.width)
    smooth = F.interpolate(values[None, None].float(), size=size, mode="bilinear")[0, 0]
    share = (smooth / smooth.max().clamp(min=1e-12)).clamp(0, 1).cpu().numpy()
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    strength = np.interp(share, (0, 1), _STRENGTH)[..., None]
    mixed = (1 - strength) * grey + strength * _colors(share)
    return Image.fromarray(mixed.round().astype(np.uint8))


def _colors(share: np.ndarray) -> np.ndarray:
    """Maps (H, W) values in [0, 1] to (H, W, 3) colours."""
    places = np.linspace(0, 1, len(_RAMP))
    channels = [np.interp(share, places, _RAMP[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1)
