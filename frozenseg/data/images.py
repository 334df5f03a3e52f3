"""Images of any kind as RGB, and label maps with the values that their files store."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from frozenseg.data.pillow import (
    check_size,
    image_endings,
    max_pixels,
    name_of,
    one_sentence,
    opened_image,
)
from frozenseg.errors import UserError
from frozenseg.io.gates import reason_of
from frozenseg.io.paths import is_hidden

_GREY_OF_16_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_EXIF_ORIENTATION = 0x0112
_RANGES = (255, 4095, 65535)  # values of white in 8, 12 and 16 bits


class Photo(NamedTuple):
    """A decoded image file."""

    pixels: Tensor  # (3, H, W) uint8 RGB
    orientation: int  # of its EXIF block: 1 upright; from 5 on, width and height are exchanged


def read_image(
    source: str | Path | bytes | Image.Image | np.ndarray | Tensor, *, bgr: bool = False
) -> Tensor:
    """Any image as (3, H, W) uint8 RGB, upright.

    Transparent pixels become white, 16-bit grey is scaled to 8 bits, and the EXIF orientation is
    applied. Arrays are (H, W), (H, W, 3) or (H, W, 4), tensors (3, H, W) or (1, H, W). Their values
    are floats from 0 to 255, or integers of any type: the smallest of the 8-, 12- and 16-bit ranges
    that holds the largest value is scaled to 0..255, so that an 8-bit image in a 16-bit array keeps
    its brightness.

    Args:
        source: a path, the bytes of an image file, a Pillow image, an array or a tensor.
        bgr: the colours of an array or tensor are in the order of OpenCV, blue first.

    Raises:
        UserError: the file is missing, no image, damaged or too large; an image has no pixel; or an
            array's type, shape or values are not those of an image.
    """
    if isinstance(source, Tensor):
        return _from_array(_channels_last(source), name="the tensor", bgr=bgr)
    if isinstance(source, np.ndarray):
        return _from_array(source, name="the array", bgr=bgr)
    if isinstance(source, Image.Image):
        with one_sentence("the image"):
            check_size(source.size, name="the image", limit=max_pixels())
            return _to_tensor(_to_rgb(source, name="the image"))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read_photo(bytes(source)).pixels
    if not isinstance(source, (str, Path)):
        raise UserError(
            f"an image of type {type(source).__name__} cannot be read: give a path, bytes, a "
            "Pillow image, an array or a tensor"
        )
    return read_photo(Path(os.path.expanduser(source))).pixels


def read_photo(source: Path | bytes, *, upright: bool = True) -> Photo:
    """An image file, or its bytes, as RGB, with its EXIF orientation.

    Args:
        source: the file or its content.
        upright: apply the orientation; False keeps the pixels as they are stored.

    Raises:
        UserError: the file is missing, no image, damaged or too large.
    """
    with opened_image(source) as image:
        orientation = _orientation(image)
        pixels = _to_tensor(_to_rgb(image, name=name_of(source), upright=upright))
        return Photo(pixels, orientation)


def read_label_map(path: Path, *, one_bit: int = 255) -> np.ndarray:
    """A label image's (H, W) or (H, W, C) values as stored: palette indices, 8, 16 or 32 bits.

    Args:
        one_bit: what the set pixels of a 1-bit image stand for. By the PNG standard 255: tools that
            shrink files store a grey map of 0 and 255 in this way.

    Raises:
        UserError: the file is missing, no image, damaged or too large.
    """
    values = np.asarray(open_image(path))
    return values.astype(np.uint8) * np.uint8(one_bit) if values.dtype == bool else values


def read_colors(path: Path) -> np.ndarray:
    """A colour image's (H, W, 3) uint8 values as stored; palettes and 8-bit grey are resolved.

    Raises:
        UserError: the file is missing, no image, damaged, too large, or has more than 8 bits.
    """
    image = open_image(path)
    if image.mode not in ("RGB", "RGBA", "P", "L", "1"):
        raise UserError(f"{path} is not an 8-bit colour image, but of Pillow's mode {image.mode}")
    if image.mode == "RGBA":  # no alpha is multiplied in: colours are ids
        return np.asarray(image)[..., :3]
    return np.asarray(image.convert("RGB"))


def image_size(path: Path, *, upright: bool = True) -> tuple[int, int]:
    """(height, width) as ``read_photo`` gives them, from the header alone.

    Raises:
        UserError: the file is missing, no image, damaged or too large.
    """
    with opened_image(path) as image:
        width, height = image.size
        return (width, height) if upright and _orientation(image) >= 5 else (height, width)


def open_image(path: Path) -> Image.Image:
    """A file's image as it is stored: decoded, in its own mode, not turned upright.

    Raises:
        UserError: the file is missing, no image, damaged or too large.
    """
    with opened_image(path) as image:
        image.load()
        return image


def image_files(folder: Path, *, recursive: bool = False) -> tuple[list[Path], list[Path]]:
    """The images in a folder, recognised by their endings in any case, and its other files.

    Both are sorted by path. Hidden files, and the files of hidden folders, are in neither list.

    Args:
        folder: whose files.
        recursive: also those of the folders in it; links to folders are not followed.
    """
    paths = folder.rglob("*") if recursive else folder.iterdir()
    files = [path for path in sorted(paths) if path.is_file()]
    files = [path for path in files if not is_hidden(path.relative_to(folder))]
    images = [path for path in files if path.suffix.lower() in image_endings()]
    return images, [path for path in files if path.suffix.lower() not in image_endings()]


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the EXIF block is damaged or has another value."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # the image itself need not be damaged
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image, *, name: str, upright: bool = True) -> Image.Image:
    if upright and _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in _GREY_OF_16_BITS:
        image = Image.fromarray(_scaled(np.asarray(image), 65535, name=name))
    elif image.mode == "F":
        image = Image.fromarray(_as_bytes(np.asarray(image), name=name))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_array(array: np.ndarray, *, name: str, bgr: bool) -> Tensor:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise UserError(
            f"{name} has shape {tuple(array.shape)}: an array image is (H, W), (H, W, 3) or "
            "(H, W, 4), a tensor (3, H, W)"
        )
    check_size((array.shape[1], array.shape[0]), name=name, limit=max_pixels())
    if bgr and array.ndim == 3:
        array = np.concatenate([array[..., 2::-1], array[..., 3:]], axis=-1)
    return _to_tensor(_to_rgb(Image.fromarray(_as_bytes(array, name=name)), name=name))


def _as_bytes(array: np.ndarray, *, name: str) -> np.ndarray:
    """Image values as uint8: integers of 8, 12 or 16 bits scaled, floats from 0 to 255 rounded."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind not in "iuf":
        raise UserError(f"{name} has values of type {array.dtype}: give numbers")
    low, high = array.min(), array.max()
    if array.dtype.kind in "iu":
        return _scaled(array, _white_of(array, int(high)), name=name)
    if not (low >= 0 and high <= 255) or 0 < high <= 1:
        raise _not_an_image(array, name)
    return np.rint(array).astype(np.uint8)


def _white_of(array: np.ndarray, high: int) -> int:
    """The value of white; multiples of 257 are 8-bit values that someone stored in 16 bits."""
    white = next((white for white in _RANGES if high <= white), _RANGES[-1])
    return 65535 if white == 4095 and not (array % 257).any() else white


def _scaled(array: np.ndarray, white: int, *, name: str) -> np.ndarray:
    """Integers 0..white scaled to 0..255, rounded half up."""
    if array.min() < 0 or array.max() > white:
        raise _not_an_image(array, name)
    if white == 255:
        return array.astype(np.uint8)
    return ((array.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _not_an_image(array: np.ndarray, name: str) -> UserError:
    return UserError(
        f"{name} has {array.dtype} values from {array.min():g} to {array.max():g}: an image has "
        "integers of 8, 12 or 16 bits, or floats from 0 to 255"
    )


def _channels_last(image: Tensor) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise UserError(f"the tensor has shape {tuple(image.shape)}: an image is (3, H, W)")
    try:
        image = image.detach().cpu().permute(1, 2, 0)
        return (image.float() if image.is_floating_point() else image).numpy()
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise UserError(
            f"a tensor of {image.dtype} and layout {image.layout} on {image.device} cannot be read "
            f"({reason_of(error)}): give a dense tensor of numbers"
        ) from error


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
