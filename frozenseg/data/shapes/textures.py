"""The twelve grounds, each painted once as a large periodic tile that scenes cut from."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from frozenseg.data.shapes.words import STUFF

TILE = 512  # side of a tile, pixels
Array = NDArray[np.floating]


@cache
def texture_tile(name: str) -> NDArray[np.uint8]:
    """The (512, 512, 3) RGB tile of a ground; the same on every call, and periodic."""
    rng = np.random.default_rng((2025, STUFF.index(name)))
    return np.clip(_PAINTERS[name](rng), 0, 255).astype(np.uint8)


@cache
def grain_tile() -> NDArray[np.float32]:
    """White noise of unit variance, (512, 512, 3), for the grain of photographs."""
    return np.random.default_rng(2026).standard_normal((TILE, TILE, 3), dtype=np.float32)


def _noise(rng: np.random.Generator, sigma_y: float, sigma_x: float) -> Array:
    """Periodic Gaussian noise of unit variance with features of about these sizes in pixels."""
    frequency_y = np.fft.fftfreq(TILE)[:, None]
    frequency_x = np.fft.rfftfreq(TILE)[None]
    blur = np.exp(-2 * np.pi**2 * ((sigma_y * frequency_y) ** 2 + (sigma_x * frequency_x) ** 2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((TILE, TILE))) * blur, s=(TILE, TILE))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _grid() -> tuple[Array, Array]:
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32)
    return y, x


def _rgb(*color: int) -> Array:
    return np.array(color, dtype=np.float32)


def _mix(amount: Array, low: tuple[int, int, int], high: tuple[int, int, int]) -> Array:
    """The colour ``low`` where ``amount`` is 0, ``high`` where it is 1."""
    amount = np.clip(amount, 0, 1)[..., None]
    return (1 - amount) * np.array(low, dtype=np.float32) + amount * np.array(
        high, dtype=np.float32
    )


def _cells(rng: np.random.Generator, pitch: int) -> tuple[Array, NDArray[np.int64]]:
    """A Voronoi pattern: each pixel's distance to its cell's border (px), and its cell."""
    from scipy.spatial import KDTree  # slow to import, and needed only when a scene is drawn

    corners = np.stack(np.meshgrid(*[np.arange(0, TILE, pitch)] * 2), -1).reshape(-1, 2)
    points = (corners + rng.uniform(0.1, 0.9, corners.shape) * pitch) % TILE
    pixels = np.stack(_grid(), -1).reshape(-1, 2)
    distance, nearest = KDTree(points, boxsize=TILE).query(pixels, k=2)
    distance, nearest = np.asarray(distance), np.asarray(nearest)
    gap = (distance[:, 1] - distance[:, 0]) / 2
    return gap.reshape(TILE, TILE).astype(np.float32), nearest[:, 0].reshape(TILE, TILE)


def _grass(rng: np.random.Generator) -> Array:
    blades = _noise(rng, 5, 0.8) * 0.16 + _noise(rng, 24, 24) * 0.12
    return _mix(0.5 + blades, (34, 88, 26), (136, 188, 78))


def _sand(rng: np.random.Generator) -> Array:
    y, _ = _grid()
    ripples = np.sin(y * (2 * np.pi * 24 / TILE) + 1.6 * _noise(rng, 22, 30))
    return _mix(
        0.5 + 0.16 * ripples + 0.1 * _noise(rng, 0.6, 0.6), (190, 156, 100), (244, 224, 176)
    )


def _water(rng: np.random.Generator) -> Array:
    y, _ = _grid()
    waves = np.sin(y * (2 * np.pi * 30 / TILE) + 2.2 * _noise(rng, 10, 16))
    glints = np.clip(waves - 0.55, 0, 1) * np.clip(_noise(rng, 5, 14), 0, 2)
    return _mix(0.35 + 0.2 * waves + 0.9 * glints, (14, 62, 126), (120, 196, 232))


def _sky(rng: np.random.Generator) -> Array:
    clouds = 0.7 * _noise(rng, 18, 34) + 0.35 * _noise(rng, 8, 12) + 0.12 * _noise(rng, 3, 4)
    return _mix(np.clip(1.1 * clouds - 0.1, 0, 1), (122, 182, 240), (250, 252, 255))


def _brick(rng: np.random.Generator) -> Array:
    y, x = _grid()
    height, width = 16, 32
    row = np.floor(y / height)
    x = x + row % 2 * (width / 2)
    tint = rng.uniform(-0.3, 0.3, (TILE // height, TILE // width)).astype(np.float32)
    brick = tint[row.astype(int), np.floor(x / width).astype(int) % (TILE // width)]
    faces = _mix(0.5 + brick + 0.1 * _noise(rng, 1, 1), (122, 44, 34), (190, 92, 70))
    mortar = np.minimum(
        np.minimum(y % height, height - y % height), np.minimum(x % width, width - x % width)
    )
    return np.where((mortar < 1.6)[..., None], _rgb(206, 198, 186), faces)


def _wood(rng: np.random.Generator) -> Array:
    y, _ = _grid()
    plank = 32
    which = np.floor(y / plank).astype(int)
    tint = rng.uniform(-0.22, 0.22, TILE // plank).astype(np.float32)[which]
    rings = np.sin(y * (2 * np.pi * 56 / TILE) + 2.5 * _noise(rng, 8, 70))
    board = _mix(
        0.5 + tint + 0.18 * rings + 0.08 * _noise(rng, 0.6, 12), (92, 56, 26), (190, 136, 82)
    )
    seam = np.minimum(y % plank, plank - y % plank) < 1.2
    return np.where(seam[..., None], _rgb(50, 28, 12), board)


def _snow(rng: np.random.Generator) -> Array:
    drifts = 0.2 * _noise(rng, 12, 36) + 0.06 * _noise(rng, 0.7, 0.7)
    return _mix(0.7 + drifts, (196, 212, 236), (254, 254, 255))


def _gravel(rng: np.random.Generator) -> Array:
    gap, cell = _cells(rng, pitch=12)
    tint = rng.uniform(0.2, 1, cell.max() + 1).astype(np.float32)[cell]
    stones = tint * np.clip(0.25 + gap / 4, 0, 1) + 0.05 * _noise(rng, 0.8, 0.8)
    return _mix(stones, (44, 42, 42), (196, 190, 184))


def _lava(rng: np.random.Generator) -> Array:
    gap, _ = _cells(rng, pitch=36)
    heat = np.exp(-((gap + 1.5 * _noise(rng, 3, 3)) / 3.2))
    crust = _mix(0.5 + 0.25 * _noise(rng, 3, 3), (26, 12, 12), (70, 34, 30))
    glow = np.clip(heat, 0, 1)[..., None]
    return (1 - glow) * crust + glow * _mix(heat - 0.4, (226, 62, 8), (255, 222, 84))


def _marble(rng: np.random.Generator) -> Array:
    veins = np.exp(-np.abs(_noise(rng, 14, 20) + 0.25 * _noise(rng, 4, 4)) / 0.09)
    fine = np.exp(-np.abs(_noise(rng, 9, 7)) / 0.05)
    return _mix(0.14 * _noise(rng, 20, 20) + veins + 0.45 * fine, (228, 220, 206), (76, 70, 72))


def _tiles(rng: np.random.Generator) -> Array:
    y, x = _grid()
    side = 32
    dark = (np.floor(y / side) + np.floor(x / side)) % 2
    tiles = _mix(dark + 0.05 * _noise(rng, 6, 6), (206, 234, 226), (22, 124, 116))
    joint = (
        np.minimum(np.minimum(y % side, side - y % side), np.minimum(x % side, side - x % side))
        < 1.2
    )
    return np.where(joint[..., None], _rgb(92, 110, 108), tiles)


def _carpet(rng: np.random.Generator) -> Array:
    y, x = _grid()
    side = 32
    diamond = (np.abs(y % side - side / 2) + np.abs(x % side - side / 2)) / side
    weave = 0.1 * _noise(rng, 0.6, 1.4)
    ground = _mix(0.5 + weave + 0.1 * _noise(rng, 20, 20), (84, 16, 56), (140, 40, 92))
    thread = np.clip(1.4 - np.abs(diamond - 0.34) * 26, 0, 1) + (diamond < 0.1)
    thread = np.clip(thread, 0, 1)[..., None]
    return (1 - thread) * ground + thread * _mix(0.5 + weave, (196, 150, 60), (240, 200, 110))


_PAINTERS: dict[str, Callable[[np.random.Generator], Array]] = {
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "sky": _sky,
    "brick": _brick,
    "wood": _wood,
    "snow": _snow,
    "gravel": _gravel,
    "lava": _lava,
    "marble": _marble,
    "tiles": _tiles,
    "carpet": _carpet,
}
