"""The ten shapes as signed distances.

Coordinates have y downwards and are in units of the shape's radius; a distance is negative inside,
in the same unit, exact near the outline and a bound elsewhere.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def signed_distance(shape: str, x: Array, y: Array) -> Array:
    """Distance of points to the outline of an upright ``shape`` of radius 1 around the origin."""
    return _OUTLINES[shape](x, y)


def _circle(x: Array, y: Array, radius: float = 0.92) -> Array:
    return np.hypot(x, y) - np.float32(radius)


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _square(x: Array, y: Array) -> Array:
    return _box(x, y, 0.8, 0.8)


def _triangle(x: Array, y: Array) -> Array:
    y = y - 0.2
    return np.maximum(0.866 * np.abs(x) - 0.5 * y, y) - 0.56


def _star(x: Array, y: Array) -> Array:
    """Five points: fold the plane into half a point, whose edge is one straight line."""
    tip, inner = 1.08, 0.45
    fifth = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + fifth / 2) % fifth - fifth / 2)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    inner_along, inner_across = inner * np.cos(fifth / 2), inner * np.sin(fifth / 2)
    edge = np.hypot(tip - inner_along, inner_across)
    return (inner_across * (along - tip) + (tip - inner_along) * across) / edge


def _cross(x: Array, y: Array) -> Array:
    return np.minimum(_box(x, y, 0.95, 0.32), _box(x, y, 0.32, 0.95))


def _ring(x: Array, y: Array) -> Array:
    return np.abs(np.hypot(x, y) - 0.7) - 0.25


def _heart(x: Array, y: Array) -> Array:
    """Two round lobes on a right-angled tip."""
    scale = 1.62
    x, y = np.abs(x) / scale, 0.55 - y / scale
    lobe = np.hypot(x - 0.25, y - 0.75) - np.sqrt(2) / 4
    fold = 0.5 * np.maximum(x + y, 0)
    body = np.sqrt(np.minimum(x**2 + (y - 1) ** 2, (x - fold) ** 2 + (y - fold) ** 2))
    return scale * np.where(x + y > 1, lobe, body * np.sign(x - y))


def _crescent(x: Array, y: Array) -> Array:
    return np.maximum(_circle(x, y, 0.96), -_circle(x - 0.45, y, 0.76))


def _hexagon(x: Array, y: Array) -> Array:
    return np.maximum(np.abs(y), 0.866 * np.abs(x) + 0.5 * np.abs(y)) - 0.82


def _arrow(x: Array, y: Array) -> Array:
    """Points to the right: a shaft and a head."""
    shaft = _box(x + 0.35, y, 0.6, 0.26)
    head = np.maximum(0.66 * (x - 1.0) + 0.75 * np.abs(y), 0.05 - x)
    return np.minimum(shaft, head)


_OUTLINES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "crescent": _crescent,
    "hexagon": _hexagon,
    "arrow": _arrow,
}
