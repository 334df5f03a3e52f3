"""Paints an id map over a picture strip by strip, so that large ones need little memory."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from frozenseg.ops.maps import Size
from frozenseg.visualization.palette import Color

Grey = NDArray[np.floating]  # (h, W, 1), 0..255
Void = Callable[[Grey, int, Size], Grey]  # from a strip's grey, its first row, the picture's size

_STRIP_PIXELS = 1 << 14  # their floats stay in the cache
_LINE_OPACITY = 0.92


def paint(
    picture: Image.Image,
    ids: NDArray[np.integer],
    palette: Mapping[int, Color],
    *,
    alpha: float,
    void: Void,
) -> Image.Image:
    """Tints each segment and draws a soft white line between segments.

    Args:
        picture: RGB.
        ids: (H, W) id of each pixel's segment; 0 is void.
        palette: RGB by id.
        alpha: opacity of the colours, 0 to 1.
        void: returns the grey of void pixels.
    """
    size = ids.shape[0], ids.shape[1]
    table = np.zeros((max(palette, default=0) + 1, 3), dtype=np.float32)
    for number, color in palette.items():
        table[number] = alpha * np.array(color)
    given, line, gain = np.asarray(picture), *_outlines(ids)
    painted = np.empty_like(given)
    rows = max(1, _STRIP_PIXELS // size[1])
    for top in range(0, size[0], rows):
        strip = slice(top, top + rows)
        pixels, own = given[strip].astype(np.float32), ids[strip]
        grey = (pixels[..., :1] + pixels[..., 1:2] + pixels[..., 2:]) / 3
        pixels += grey  # keeps the hue of the segment's colour
        pixels *= (1 - alpha) / 2
        pixels += table.take(own, axis=0)
        if (empty := own == 0).any():
            np.copyto(pixels, void(grey, top, size), where=empty[..., None])
        if (edge := line[strip] > 0).any():
            opacity = np.minimum(gain * line[strip][edge], np.float32(_LINE_OPACITY))
            pixels[edge] += opacity[:, None] * (255 - pixels[edge])
        painted[strip] = np.rint(pixels, out=pixels)
    return Image.fromarray(painted)


def hatched(grey: Grey, top: int, size: Size) -> Grey:
    """Dark grey with diagonal stripes, for pixels of no segment."""
    step = max(8, min(size) // 48)
    rows = np.arange(top, top + len(grey))
    stripe = (rows[:, None] + np.arange(size[1])) % step < step / 4
    return dimmed(grey, top, size) + 45 * stripe[..., None]


def dimmed(grey: Grey, _top: int, _size: Size) -> Grey:
    """Dark grey, for the background of instances."""
    return 0.4 * grey + 12


def _outlines(ids: NDArray[np.integer]) -> tuple[NDArray[np.uint8], np.float32]:
    """(H, W) soft line between segments, and the factor that makes it an opacity.

    Its width grows with the picture. A line of two pixels is blurred as much as one of that width
    would be by half of it.
    """
    border = np.zeros(ids.shape, dtype=np.uint8)
    for axis in (ids, border), (ids.T, border.T):
        numbers, marked = axis
        differs = np.where(numbers[1:] != numbers[:-1], np.uint8(255), np.uint8(0))
        marked[1:] |= differs
        marked[:-1] |= differs
    if not border.any():
        return border, np.float32(0)
    width = max(1.0, min(ids.shape) / 450)
    reach = max(1, round(width / 2))
    blur = ImageFilter.GaussianBlur((width**2 / 4 + (reach**2 - 1) / 3) ** 0.5)
    return np.asarray(Image.fromarray(border).filter(blur)), np.float32(2 * reach / 255)
