"""Small named windows, from which the miniature CLIP learns.

A window looks like a piece of a scene, at the scenes' own scale, around the thing or the ground it
is named for. The thing about fills it: the mean feature of a window then is like the mean feature
under a thing's mask.
"""

import numpy as np
from numpy.typing import NDArray

from frozenseg.data.shapes.scene import RADIUS_PX, Painter
from frozenseg.data.shapes.words import ALL_THINGS, STUFF, Thing


def render_window(
    rng: np.random.Generator, subject: Thing | str, size: int = 96
) -> NDArray[np.uint8]:
    """A (size, size, 3) RGB window around a thing, or on a ground given by its name."""
    if isinstance(subject, str):
        return _ground_window(rng, subject, size)
    while (painter := _thing_window(rng, subject, size)) is None:
        pass
    return painter.finish().image


def _thing_window(rng: np.random.Generator, thing: Thing, size: int) -> Painter | None:
    """The thing, about as wide as the window; None if another at the border left no room."""
    num_stuff = 1 + int(rng.random() < 0.4)
    stuff = tuple(STUFF[i] for i in rng.choice(len(STUFF), num_stuff, replace=False))
    painter = Painter(rng=rng, size=size, stuff=stuff)
    behind, in_front = rng.random(2) < 0.35
    if behind:
        _place_at_border(painter, rng)
    y, x = size * (0.5 + rng.uniform(-0.1, 0.1, 2))
    radius = float(np.clip(size * rng.uniform(0.33, 0.58), *RADIUS_PX))
    if not painter.place_at(thing, center=(float(y), float(x)), radius=radius):
        return None
    if in_front:
        _place_at_border(painter, rng)
    return painter


def _ground_window(rng: np.random.Generator, name: str, size: int) -> NDArray[np.uint8]:
    others = [other for other in STUFF if other != name]
    divided = rng.random() < 0.35
    stuff = (name, others[rng.integers(len(others))]) if divided else (name,)
    painter = Painter(rng=rng, size=size, stuff=stuff, shares=(0.6, 0.1) if divided else (1.0,))
    if rng.random() < 0.4:
        _place_at_border(painter, rng)
    return painter.finish().image


def _place_at_border(painter: Painter, rng: np.random.Generator) -> None:
    """Any thing, with its middle outside or just inside the window."""
    direction, size = rng.uniform(-np.pi, np.pi), painter.size
    radius = float(rng.uniform(*RADIUS_PX))
    reach = 0.5 * size + rng.uniform(0.2, 0.7) * radius
    y, x = 0.5 * size + reach * np.sin(direction), 0.5 * size + reach * np.cos(direction)
    thing = ALL_THINGS[rng.integers(len(ALL_THINGS))]
    painter.place_at(thing, center=(float(y), float(x)), radius=radius)
