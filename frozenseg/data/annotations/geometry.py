"""The masks of objects: polygons and run lengths, checked before pycocotools draws them."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from frozenseg.data.annotations.faults import BadEntry
from frozenseg.data.annotations.fields import is_finite
from frozenseg.data.annotations.run_lengths import checked_counts, decode_run_lengths
from frozenseg.io.text import quoted

MAX_POINTS = 1 << 20  # of all parts of one object


def check_mask(segmentation: Any, size: tuple[int, int]) -> None:
    """Checks an object's mask without decoding it.

    Raises:
        BadEntry: as for ``decode_mask``.
    """
    if isinstance(segmentation, list):
        checked_polygons(segmentation, size)
    else:
        checked_counts(segmentation, size)


def decode_mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """The (H, W) bool mask of COCO polygons, or of run lengths in either form.

    Args:
        segmentation: a list of polygons ``[x0, y0, x1, y1, ...]`` in pixels, or an object with
            ``size`` and ``counts``.
        size: (height, width) of the image.

    Raises:
        BadEntry: polygons of fewer than three points, not in a list of lists, with an odd number of
            coordinates, or with one that is not finite or lies far outside of the image; run
            lengths that do not fill an image of this size.
    """
    if not isinstance(segmentation, list):
        return decode_run_lengths(segmentation, size)
    height, width = size
    polygons: Any = checked_polygons(segmentation, size)
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return decode_run_lengths(runs, size)


def checked_polygons(polygons: list[Any], size: tuple[int, int]) -> list[list[float]]:
    """The polygons as lists of coordinates.

    Raises:
        BadEntry: as for ``decode_mask``.
    """
    if not polygons:
        raise BadEntry("has no polygon")
    if not all(isinstance(part, list) for part in polygons):
        raise BadEntry(
            f"must have a list of polygons [[x, y, ...], ...], got {quoted(polygons)}, which is "
            "not nested"
        )
    if sum(map(len, polygons)) > 2 * MAX_POINTS:
        raise BadEntry(f"has polygons of more than {MAX_POINTS} points")
    for part in polygons:
        _check_polygon(part, size)
    return polygons


def _check_polygon(part: list[Any], size: tuple[int, int]) -> None:
    if not all(map(is_finite, part)):
        wrong = next(each for each in part if not is_finite(each))
        raise BadEntry(f"has the coordinate {quoted(wrong)} in a polygon: give finite numbers")
    if len(part) % 2:
        raise BadEntry(f"has a polygon of {len(part)} coordinates: give x and y of every point")
    if len(part) < 6:
        raise BadEntry(f"has a polygon of {len(part) // 2} points: give at least three")
    height, width = size
    margin = max(size)
    for values, name, side in ((part[::2], "x", width), (part[1::2], "y", height)):
        if min(values) < -margin or max(values) > side + margin:
            wrong = min(values) if min(values) < -margin else max(values)
            raise BadEntry(
                f"has the coordinate {name} = {quoted(wrong)}, far outside of its image of "
                f"{width} x {height} pixels"
            )
