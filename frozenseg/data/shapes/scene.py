"""Paints scenes: grounds divided by wavy lines, and things that may hide parts of each other.

All lengths are pixels. A pixel belongs to one ground or one thing; a thing is placed only where
whatever it covers keeps enough visible area, so every segment of a scene can be seen.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frozenseg.data.shapes.outlines import signed_distance
from frozenseg.data.shapes.textures import TILE, grain_tile, texture_tile
from frozenseg.data.shapes.words import ALL_THINGS, COLORS, STUFF, Thing

Array = NDArray[np.floating]

MIN_VISIBLE_PX = 220  # of every segment
MIN_VISIBLE_SHARE = 0.5  # of a thing that others overlap
MIN_GROUND_SHARE = 0.12  # of the image, for a ground before things are placed
RADIUS_PX = (22.0, 60.0)
_TILT = 0.45  # things are turned by up to this much, radians; arrows by any angle
_OUTLINE_PX = 2.2
_SHADOW_PX = 4


@dataclass(frozen=True)
class Scene:
    """A painted scene; ``labels`` numbers the grounds from 0, then the things."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    labels: NDArray[np.int64]  # (H, W)
    stuff: tuple[str, ...]
    things: tuple[Thing, ...]


class Painter:
    """Paints one square scene, back to front.

    Args:
        size: Side of the image, pixels.
        stuff: The grounds, one region each.
        shares: The least share of the image that each ground gets before things are placed.
    """

    def __init__(
        self,
        *,
        rng: np.random.Generator,
        size: int,
        stuff: tuple[str, ...],
        shares: tuple[float, ...] | None = None,
    ) -> None:
        if size > TILE:
            raise ValueError(f"a shapes scene is at most {TILE} pixels wide, not {size}")
        self.rng = rng
        self.size = size
        self.stuff = stuff
        self._shares = shares or (MIN_GROUND_SHARE,) * len(stuff)
        self.things: list[Thing] = []
        self._full_areas: list[int] = []
        self._y, self._x = np.mgrid[:size, :size].astype(np.float32)
        self.image, self.labels = self._paint_grounds()

    def place(self, thing: Thing, *, attempts: int = 12) -> bool:
        """Paints the thing where it hides no other too much; returns False if there is no place."""
        for _ in range(attempts):
            radius = float(self.rng.uniform(*RADIUS_PX))
            margin = 0.6 * radius
            center = self.rng.uniform(margin, self.size - margin, 2)
            if self.place_at(thing, center=(float(center[0]), float(center[1])), radius=radius):
                return True
        return False

    def place_at(self, thing: Thing, *, center: tuple[float, float], radius: float) -> bool:
        """Paints the thing around ``center`` (y, x), unless that hides another too much."""
        rows, columns = (self._window(middle, radius) for middle in center)
        y, x = self._y[rows, columns] - center[0], self._x[rows, columns] - center[1]
        angle = (
            self.rng.uniform(-np.pi, np.pi)
            if thing.shape == "arrow"
            else self.rng.uniform(-_TILT, _TILT)
        )
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u, v = (cos * x + sin * y), (cos * y - sin * x)
        distance = signed_distance(thing.shape, u / radius, v / radius) * np.float32(radius)
        inside = distance < 0
        if not self._leaves_enough(inside, self.labels[rows, columns]):
            return False
        self._shade(rows, columns, distance)
        paint = self._surface(thing, u, v, distance)
        cover = np.clip(0.5 - distance, 0, 1)[..., None]
        window = self.image[rows, columns]
        window += cover * (paint - window)
        self.labels[rows, columns][inside] = len(self.stuff) + len(self.things)
        self.things.append(thing)
        self._full_areas.append(int(inside.sum()))
        return True

    def finish(self) -> Scene:
        """Lights the scene, adds grain, and returns it."""
        rng, size = self.rng, self.size
        slope_y, slope_x = rng.uniform(-0.1, 0.1, 2)
        light = (
            rng.uniform(0.88, 1.08)
            + slope_y * (self._y / size - 0.5)
            + slope_x * (self._x / size - 0.5)
        )
        tint = rng.uniform(0.96, 1.04, 3)
        grain = _cut(grain_tile(), rng, size) * np.float32(rng.uniform(1, 5))
        image = self.image * (light[..., None] * tint).astype(np.float32) + grain
        return Scene(
            image=np.clip(image + 0.5, 0, 255).astype(np.uint8),
            labels=self.labels,
            stuff=self.stuff,
            things=tuple(self.things),
        )

    def _window(self, middle: float, radius: float) -> slice:
        reach = 1.1 * radius + _SHADOW_PX + 2
        return slice(max(0, int(middle - reach)), min(self.size, int(middle + reach) + 1))

    def _leaves_enough(self, inside: NDArray[np.bool_], covered: NDArray[np.int64]) -> bool:
        """Returns True if the new thing and all that it covers would stay visible."""
        if inside.sum() < MIN_VISIBLE_PX:
            return False
        num_labels = len(self.stuff) + len(self.things)
        lost = np.bincount(covered[inside], minlength=num_labels)
        before = np.bincount(self.labels.ravel(), minlength=num_labels)
        needed = np.full(num_labels, MIN_VISIBLE_PX, dtype=np.float64)
        shares = MIN_VISIBLE_SHARE * np.array(self._full_areas)
        needed[len(self.stuff) :] = np.maximum(shares, MIN_VISIBLE_PX)
        return bool(((before - lost >= needed) | (lost == 0)).all())

    def _shade(self, rows: slice, columns: slice, distance: Array) -> None:
        """Paints a soft shadow to the lower right."""
        shadow = np.clip(0.5 - distance / (2 * _SHADOW_PX), 0, 1)
        shadow = np.pad(shadow, ((_SHADOW_PX, 0), (_SHADOW_PX, 0)))[:-_SHADOW_PX, :-_SHADOW_PX]
        self.image[rows, columns] *= (1 - 0.4 * shadow)[..., None]

    def _surface(self, thing: Thing, u: Array, v: Array, distance: Array) -> Array:
        """The thing's colour at each pixel: pattern, a darker rim and a little relief."""
        rng = self.rng
        base = np.array(COLORS[thing.color], dtype=np.float32) * np.float32(rng.uniform(0.92, 1.06))
        base = base + rng.uniform(-10, 10, 3).astype(np.float32)
        other = 0.22 * base + 0.78 * 255 if rng.random() < 0.5 else 0.3 * base
        amount = _pattern(thing.pattern, rng, u, v)[..., None]
        color = base + amount * (other - base)
        relief = 1 - 0.10 * np.clip(v / 40, -1, 1)
        rim = 1 - 0.5 * np.clip(0.5 + (distance + _OUTLINE_PX), 0, 1)
        return color * (relief * rim)[..., None]

    def _paint_grounds(self) -> tuple[Array, NDArray[np.int64]]:
        image = self._ground(self.stuff[0])
        if len(self.stuff) == 1:
            return image, np.zeros((self.size, self.size), dtype=np.int64)
        labels, edge = self._divide()
        for label, name in enumerate(self.stuff[1:], start=1):
            cover = np.clip(0.5 + edge[label], 0, 1)[..., None]
            image += cover * (self._ground(name) - image)
        return image, labels

    def _divide(self) -> tuple[NDArray[np.int64], list[Array]]:
        """Each pixel's ground, and how far (px) each ground reaches over those before it."""
        while True:
            distance = self._site_distances()
            labels = np.zeros((self.size, self.size), dtype=np.int64)
            nearest, edges = distance[0], [np.zeros_like(distance[0])]
            for label, own in enumerate(distance[1:], start=1):
                edges.append((nearest - own) / 2)
                labels[own < nearest] = label
                nearest = np.minimum(nearest, own)
            shares = np.bincount(labels.ravel(), minlength=len(self.stuff)) / labels.size
            if (shares >= self._shares).all():
                return labels, edges

    def _site_distances(self) -> Array:
        """Distance of each pixel, moved by slow waves, to one random site per ground."""
        rng, size = self.rng, self.size
        y, x = self._y, self._x
        for length in (0.9, 0.35):
            amplitude = (rng.uniform(0.02, 0.12, 2) * size * length).astype(np.float32)
            rate = (2 * np.pi / (length * size) * rng.uniform(0.7, 1.3, 2)).astype(np.float32)
            phase = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
            y, x = (
                y + amplitude[0] * np.sin(rate[0] * x + phase[0]),
                x + amplitude[1] * np.sin(rate[1] * y + phase[1]),
            )
        sites = rng.uniform(-0.2, 1.2, (len(self.stuff), 2)).astype(np.float32) * size
        if "sky" in self.stuff:  # belongs on top
            sky, top = self.stuff.index("sky"), int(sites[:, 0].argmin())
            sites[[sky, top]] = sites[[top, sky]]
        return np.hypot(y - sites[:, 0, None, None], x - sites[:, 1, None, None])

    def _ground(self, name: str) -> Array:
        gain = self.rng.uniform(0.9, 1.08) * self.rng.uniform(0.97, 1.03, 3)
        return _cut(texture_tile(name), self.rng, self.size) * gain.astype(np.float32)


def random_scene(rng: np.random.Generator, size: int = 256) -> Scene:
    """A scene of any things and grounds, seen and unseen."""
    num_stuff, num_things = int(rng.integers(2, 4)), int(rng.integers(3, 8))
    stuff = tuple(STUFF[i] for i in rng.choice(len(STUFF), num_stuff, replace=False))
    painter = Painter(rng=rng, size=size, stuff=stuff)
    for index in rng.integers(len(ALL_THINGS), size=num_things):
        painter.place(ALL_THINGS[index])
    return painter.finish()


def _cut(tile: NDArray, rng: np.random.Generator, size: int) -> NDArray:
    """A random window of a tile, sometimes mirrored."""
    top, left = rng.integers(0, TILE - size + 1, 2)
    window = tile[top : top + size, left : left + size]
    return window[:, ::-1] if rng.random() < 0.5 else window


def _pattern(pattern: str, rng: np.random.Generator, u: Array, v: Array) -> Array:
    """The share of the second colour at each pixel: 0 everywhere, in stripes, or in dots."""
    if pattern == "striped":
        period, phase = rng.uniform(11, 17), rng.random()
        return np.clip(0.5 + (np.abs((u / period + phase) % 1 - 0.5) - 0.25) * period, 0, 1)
    if pattern == "dotted":
        period, phase = rng.uniform(13, 18), rng.random(2)
        across = (u / period + phase[0]) % 1 - 0.5
        along = (v / period + phase[1]) % 1 - 0.5
        return np.clip(0.5 + (0.28 - np.hypot(across, along)) * period, 0, 1)
    return np.zeros_like(u)
