"""Frames around regions of a drawing, and the regions where two segmentations differ."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Box = tuple[float, float, float, float]

_LINE_SHARE = 1 / 150  # line width, of the drawing's short side
_MIN_SHARE = 0.004  # of the image; smaller differences get no frame
_MAX_SHARE = 0.3  # of the image; larger boxes are not informative
_MARGIN_SHARE = 0.015  # margin around a difference, of the image's short side


def with_box(picture: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """Returns a copy with a white frame, outlined in black.

    Args:
        picture: the drawing.
        box: (x0, y0, x1, y1) in pixels of the image.
        size: (height, width) of the image, pixels.
    """
    framed = picture.copy()
    scale = picture.height / size[0]
    line = max(2, round(min(picture.size) * _LINE_SHARE))
    x0, y0, x1, y1 = (round(value * scale) for value in box)
    corners = (max(0, x0), max(0, y0), min(picture.width, x1) - 1, min(picture.height, y1) - 1)
    draw = ImageDraw.Draw(framed)
    draw.rectangle(corners, outline=(20, 20, 20), width=line + 2)
    inner = (corners[0] + 1, corners[1] + 1, corners[2] - 1, corners[3] - 1)
    draw.rectangle(inner, outline="white", width=line)
    return framed


def differing_boxes(
    first: NDArray[np.integer], second: NDArray[np.integer], *, most: int = 3
) -> list[Box]:
    """Returns boxes around the ``most`` largest regions where two (H, W) class maps differ.

    Each map has a single class throughout a region. Regions are omitted if their box covers most of
    the image or overlaps that of a larger region.
    """
    height, width = first.shape
    margin = _MARGIN_SHARE * min(height, width)
    boxes: list[Box] = []
    for (y0, y1), (x0, x1) in _regions(first, second):
        box = (
            max(0, x0 - margin),
            max(0, y0 - margin),
            min(width, x1 + margin),
            min(height, y1 + margin),
        )
        if _area(box) <= _MAX_SHARE * first.size and not any(
            _overlaps(box, each) for each in boxes
        ):
            boxes.append(box)
    return boxes[:most]


def _regions(
    first: NDArray[np.integer], second: NDArray[np.integer]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """((top, bottom), (left, right)) of each differing region, largest first."""
    from scipy import ndimage  # slow to import, and needed only for comparisons

    steps = max(1, min(first.shape) // 128)  # thinner differences are shifted outlines
    found: list[tuple[int, tuple[tuple[int, int], tuple[int, int]]]] = []
    differs = first != second
    for pair in np.unique(np.stack([first[differs], second[differs]]), axis=1).T:
        here = ndimage.binary_opening((first == pair[0]) & (second == pair[1]), iterations=steps)
        places = np.zeros(first.shape, dtype=np.int32)
        ndimage.label(here, output=places)
        areas = np.bincount(places.ravel())[1:]
        found += [
            (int(area), ((rows.start, rows.stop), (columns.start, columns.stop)))
            for area, (rows, columns) in zip(areas, ndimage.find_objects(places), strict=True)
            if area >= _MIN_SHARE * first.size
        ]
    return [extent for _, extent in sorted(found, key=lambda each: -each[0])]


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _overlaps(first: Box, second: Box) -> bool:
    """Returns True if the intersection exceeds half of the smaller box."""
    low = (max(first[0], second[0]), max(first[1], second[1]))
    common = (*low, min(first[2], second[2]), min(first[3], second[3]))
    return _area(common) > min(_area(first), _area(second)) / 2
