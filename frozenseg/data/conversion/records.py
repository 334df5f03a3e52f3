"""Records that converters produce: images with polygons."""

from pathlib import Path
from typing import NamedTuple


class Outline(NamedTuple):
    """One object of an image.

    Args:
        label: the class name.
        polygons: its parts, each ``[x0, y0, x1, y1, ...]`` in pixels.
    """

    label: str
    polygons: list[list[float]]


class AnnotatedImage(NamedTuple):
    """One image and its objects."""

    name: str  # of the file, below the folder of images
    size: tuple[int, int]  # (height, width) of the upright image
    outlines: list[Outline]


class Converted(NamedTuple):
    """All images of a data set.

    Args:
        folder: of the images.
        classes: names in the order of their ids; classes without an object may be among them.
        images: sorted by name.
        faults: what was left out, a sentence each.
    """

    folder: Path
    classes: list[str]
    images: list[AnnotatedImage]
    faults: list[str]
