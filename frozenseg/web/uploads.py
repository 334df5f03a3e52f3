"""Uploaded bytes as an image, reduced to the size that is segmented; nothing touches the disk."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frozenseg.data.images import read_image
from frozenseg.data.pillow import opened_image
from frozenseg.errors import UserError
from frozenseg.web.limits import Limits


class Upload(NamedTuple):
    """A decoded upload."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB, upright, reduced
    original_size: tuple[int, int]  # (height, width) before the reduction, upright


def read_upload(content: bytes, limits: Limits) -> Upload:
    """Decodes an uploaded image file.

    Args:
        content: the file.
        limits: of the pixels of the file, and of those that are segmented.

    Raises:
        UserError: no image, a damaged one, or one with too many pixels.
    """
    if not content:
        raise UserError("the image is empty: choose another")
    with opened_image(content) as image:
        width, height = image.size
        if width * height > limits.upload_pixels:
            raise UserError(
                f"the image has {width} x {height} pixels, more than "
                f"{limits.upload_pixels / 1e6:g} million: make it smaller"
            )
        pixels = read_image(image).permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    return Upload(reduced(pixels, limits), (height, width))


def reduced(pixels: NDArray[np.uint8], limits: Limits) -> NDArray[np.uint8]:
    """An (H, W, 3) image within the limits of the model, its proportions kept."""
    height, width = pixels.shape[:2]
    by_area = (limits.segmented_pixels / (height * width)) ** 0.5
    scale = min(by_area, limits.segmented_side / max(height, width))
    if scale >= 1:
        return pixels
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(
        Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    )
