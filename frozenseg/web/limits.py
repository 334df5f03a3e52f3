"""What one visitor may ask of the server."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Upper bounds; a request beyond one of them ends in a sentence that names it."""

    upload_bytes: int = 16 << 20
    upload_seconds: float = 120  # from the first to the last byte of an upload
    upload_pixels: int = 40_000_000
    segmented_pixels: int = 1_000_000  # larger images are reduced to this many before the model
    segmented_side: int = 16_384  # pixels; no browser draws larger images, and no JPEG has them
    characters: int = 4_000  # of all class names; they travel in the address of a request
    classes: int = 100
    waiting: int = 40  # images in the line, uploads and the one in the model included


DEFAULT_LIMITS = Limits()
