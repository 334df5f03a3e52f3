"""The only place where Pillow decodes files: sizes are checked first, errors are one sentence."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from frozenseg.errors import UserError

MAX_PIXELS_VARIABLE = "FROZENSEG_MAX_PIXELS"
DEFAULT_MAX_PIXELS = 120_000_000  # a photo of 12,600 x 9,500 pixels
PIXELS_PER_SIDE = 1000  # a side is at most this part of them: thin images take as long as huge ones
LEAST_SIDE = 65_535  # pixels, which every image may have along one side; the most of a JPEG
BYTES_PER_PIXEL = 8  # largest file for the permitted number of pixels: 16 bits, four channels
# EPS and WMF start other programs; the others are containers that Pillow cannot decode by itself
REFUSED_FORMATS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})


def max_pixels() -> int:
    """The largest number of pixels that an image may have.

    ``$FROZENSEG_MAX_PIXELS`` replaces the default of 120 million.

    Raises:
        UserError: the variable is not a positive whole number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if not text:
        return DEFAULT_MAX_PIXELS
    if not (text.isdecimal() and len(text) <= 18 and int(text) > 0):
        raise UserError(
            f"{MAX_PIXELS_VARIABLE} is {text[:200]!r}: set it to a number of pixels, such as "
            f"{DEFAULT_MAX_PIXELS}"
        )
    return int(text)


def _without_warning(stored: Path | io.BytesIO) -> Image.Image:
    """Reads a header; Pillow warns at three quarters of our bound, which is checked next."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(stored)


def max_bytes() -> int:
    """Returns the largest size of an image file."""
    return max_pixels() * BYTES_PER_PIXEL


@contextmanager
def opened_image(source: Path | bytes) -> Iterator[Image.Image]:
    """The image of a file, or of its bytes, with its header read; the block may decode it.

    Raises:
        UserError: the file is missing, no image, damaged, too large, or of a refused format. Every
            error of Pillow inside the block is reported as damage.
    """
    limit, name = max_pixels(), name_of(source)
    _raise_pillow_limit(limit)
    stored = io.BytesIO(source) if isinstance(source, bytes) else source
    with one_sentence(name), _without_warning(stored) as image:
        if image.format in REFUSED_FORMATS:
            raise UserError(f"{name} is {image.format}, which is not supported: convert it to PNG")
        check_size(image.size, name=name, limit=limit)
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > max_bytes():
            raise UserError(
                f"{name} has {size:,} bytes, more than {max_bytes():,}: make it smaller, or set "
                f"{MAX_PIXELS_VARIABLE}"
            )
        yield image


def name_of(source: Path | bytes) -> str:
    """Returns how messages call an image."""
    return "the data" if isinstance(source, bytes) else str(source)


def check_size(size: tuple[int, int], *, name: str, limit: int) -> None:
    """Refuses an image of (width, height) without a pixel, with more than ``limit``, or too thin.

    Raises:
        UserError: as above.
    """
    width, height = size
    if width < 1 or height < 1:
        raise UserError(f"{name} has no pixel ({width} x {height})")
    if width * height > limit:
        raise UserError(
            f"{name} has {width} x {height} pixels, more than {limit / 1e6:g} million: make it "
            f"smaller, or set {MAX_PIXELS_VARIABLE} to at least {width * height}"
        )
    longest = max(LEAST_SIDE, limit // PIXELS_PER_SIDE)
    if max(size) > longest:
        raise UserError(
            f"{name} has {width} x {height} pixels, more than {longest:,} along one side: cut it, "
            f"or set {MAX_PIXELS_VARIABLE} to at least {max(size) * PIXELS_PER_SIDE}"
        )


@contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Turns whatever Pillow and the disk raise inside the block into a UserError."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"no image file {name}: check the path") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not an image that can be read: give a JPEG or PNG") from error
    except (MemoryError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} does not fit in memory: make it smaller") from error
    except OSError as error:
        if error.strerror:
            raise UserError(f"cannot read {name} ({error.strerror}): give an image file") from error
        raise _damage(name, error) from error
    except Exception as error:  # decoders raise what they like, from AssertionError to struct.error
        raise _damage(name, error) from error


@cache
def image_endings() -> frozenset[str]:
    """File endings, in lower case with their dot, of the formats that are read."""
    Image.init()
    return frozenset(
        ending
        for ending, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in REFUSED_FORMATS
    )


def _damage(name: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(f"{name} is damaged ({reason}): fetch it again")


def _raise_pillow_limit(limit: int) -> None:
    """Lets Pillow's own bound, a global, step back where the user has raised ours.

    It is never lowered again: another thread may be reading at the same time.
    """
    if Image.MAX_IMAGE_PIXELS is not None and limit > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit
