"""Reading pictures of any kind as RGB, and label maps as they are."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from frozenseg.errors import UserError

_GREY_OF_16_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_EXIF_ORIENTATION = 0x0112


def read_image(source: str | Path | Image.Image | np.ndarray | Tensor) -> Tensor:
    """Any picture as (3, H, W) uint8 RGB, upright.

    Transparent pixels show white, grey of 16 bits is scaled to 8, and a camera's note of rotation
    is followed. Arrays are (H, W), (H, W, 3) or (H, W, 4), tensors (3, H, W) or (1, H, W); their
    values are bytes, 16-bit integers, or floats from 0 to 255.

    Raises:
        UserError: the file is missing, no image, truncated or far too large; a picture has no
            pixel; or an array's shape or values are not those of a picture.
    """
    if isinstance(source, Tensor):
        return _from_array(_channels_last(source), name="the tensor")
    if isinstance(source, np.ndarray):
        return _from_array(source, name="the array")
    if isinstance(source, Image.Image):
        return _to_tensor(_to_rgb(source, name="the image"))
    return _to_tensor(_to_rgb(open_image(Path(source).expanduser()), name=str(source)))


def read_label_map(path: Path) -> np.ndarray:
    """A label image's (H, W) or (H, W, C) values as stored: palette indices, 8 or 16 bits.

    Raises:
        UserError: the file is missing, no image, or truncated.
    """
    return np.asarray(open_image(path))


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as ``read_image`` gives them, from the header alone.

    Raises:
        UserError: the file is missing or no image.
    """
    with _opened(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def open_image(path: Path) -> Image.Image:
    """A file's image as it is stored: decoded, in its own mode, not turned upright.

    Raises:
        UserError: the file is missing, no image, truncated or far too large.
    """
    with _opened(path) as image:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}): fetch it again") from error
        return image


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError as error:
        raise UserError(f"no image file {path}: check the path") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image that can be read: give a JPEG or PNG") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise UserError(f"{path} has more than {limit} million pixels: make it smaller") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot read {path} ({reason}): give an image file") from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; from 5 on, width and height are exchanged."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except SyntaxError:  # the EXIF block is broken, the picture need not be
        return 1


def _to_rgb(image: Image.Image, *, name: str) -> Image.Image:
    if 0 in image.size:
        raise UserError(f"{name} has no pixel ({image.width} x {image.height})")
    if _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in _GREY_OF_16_BITS:
        image = Image.fromarray(_high_bytes(np.asarray(image), name=name))
    elif image.mode == "F":
        image = Image.fromarray(_as_bytes(np.asarray(image), name=name))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_array(array: np.ndarray, *, name: str) -> Tensor:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise UserError(
            f"{name} has shape {tuple(array.shape)}: an array picture is (H, W), (H, W, 3) or "
            "(H, W, 4), a tensor (3, H, W)"
        )
    if 0 in array.shape:
        raise UserError(f"{name} has no pixel (shape {tuple(array.shape)})")
    return _to_tensor(_to_rgb(Image.fromarray(_as_bytes(array, name=name)), name=name))


def _as_bytes(array: np.ndarray, *, name: str) -> np.ndarray:
    """Picture values as uint8: bytes as they are, 16 bits scaled, floats from 0 to 255 rounded."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind in "iu" and array.dtype.itemsize == 2:
        return _high_bytes(array, name=name)
    low, high = float(array.min()), float(array.max())
    is_fraction = array.dtype.kind == "f" and 0 < high <= 1
    if array.dtype.kind in "iuf" and low >= 0 and high <= 255 and not is_fraction:
        return np.rint(array).astype(np.uint8)
    raise _not_a_picture(array, name)


def _high_bytes(array: np.ndarray, *, name: str) -> np.ndarray:
    """0..65535 scaled to 0..255."""
    if array.min() < 0 or array.max() > 65535:
        raise _not_a_picture(array, name)
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _not_a_picture(array: np.ndarray, name: str) -> UserError:
    return UserError(
        f"{name} has {array.dtype} values from {array.min():g} to {array.max():g}: a picture has "
        "bytes, 16-bit integers, or floats from 0 to 255"
    )


def _channels_last(image: Tensor) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise UserError(f"the tensor has shape {tuple(image.shape)}: a picture is (3, H, W)")
    return image.detach().cpu().permute(1, 2, 0).numpy()


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
