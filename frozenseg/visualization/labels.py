"""Where a segment's name goes: inside the segment, as large as it fits, never on another name."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from frozenseg.visualization.palette import Color

Mask = NDArray[np.bool_]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_GRID_PX = 256  # names are placed on a grid with a short side of this many cells at most
_COMFORT = 1.2  # at 1.41 a plate's corners, too, lie in its segment; a little less is room enough
_SMALLER = 0.72  # of the wished-for font size, where only that fits


class LabelRequest(NamedTuple):
    """A name that wants a place: the segment it belongs to and the segment's colour."""

    mask: Mask  # (H, W), at any resolution of the picture's aspect ratio
    text: str
    color: Color


@dataclass(frozen=True)
class Label:
    """A name with its place on the picture, pixels."""

    text: str  # with line breaks
    color: Color
    font_size: int
    box: tuple[int, int, int, int]


def place_labels(
    wishes: Iterable[LabelRequest], size: tuple[int, int], *, font_size: int
) -> tuple[Label, ...]:
    """Places names in a picture of ``size`` (height, width), pixels; earlier ones choose first.

    A name goes where the largest ellipse of its own proportions fits into the segment. It is set in
    ``font_size`` pixels, on two lines or smaller where only that fits, and left out where other
    names leave no place in the segment.
    """
    placed: list[Label] = []
    for wish in wishes:
        label = _place(wish, size, font_size, placed)
        if label is not None:
            placed.append(label)
    return tuple(placed)


def draw_labels(picture: Image.Image, labels: Iterable[Label]) -> None:
    """Writes each name in white on a dark plate with a rim of its segment's colour."""
    draw = ImageDraw.Draw(picture, "RGBA")
    for label in labels:
        x0, y0, x1, y1 = label.box
        rim = max(1, round(0.08 * label.font_size))
        draw.rounded_rectangle(
            label.box,
            radius=round(0.45 * label.font_size),
            fill=(22, 25, 32, 215),
            outline=label.color,
            width=rim,
        )
        draw.multiline_text(
            ((x0 + x1) / 2, (y0 + y1) / 2),
            label.text,
            font=font(label.font_size),
            fill="white",
            anchor="mm",
            align="center",
            spacing=_spacing(label.font_size),
        )


def label_at(
    corner: tuple[float, float], text: str, size: tuple[int, int], *, color: Color, font_size: int
) -> Label:
    """A name whose lower left corner is at (x, y), moved to lie in a picture of (height, width)."""
    height, width = _plate(text, font_size)
    x0 = round(max(0, min(corner[0], size[1] - width)))
    y0 = round(max(0, min(corner[1] - height, size[0] - height)))
    return Label(text, color, font_size, (x0, y0, x0 + width, y0 + height))


@cache
def font(size: int) -> Font:
    """The typeface that Pillow carries, in pixels."""
    return ImageFont.load_default(size)


def _place(
    wish: LabelRequest, size: tuple[int, int], font_size: int, placed: list[Label]
) -> Label | None:
    mask, cell = _coarse(wish.mask, size)
    sizes = (font_size, round(_SMALLER * font_size))
    tries = [(points, text) for points in sizes for text in _layouts(wish.text)]
    best: tuple[float, Label] | None = None
    for points, text in tries:
        height, width = _plate(text, points)
        room = _room(mask, (height / cell, width / cell))
        room = room * _free(room.shape, cell, (height, width), placed)
        row, column = np.unravel_index(room.argmax(), room.shape)
        if not room[row, column]:
            continue
        x0, y0 = round((column + 0.5) * cell - width / 2), round((row + 0.5) * cell - height / 2)
        x0, y0 = max(0, min(x0, size[1] - width)), max(0, min(y0, size[0] - height))
        label = Label(text, wish.color, points, (x0, y0, x0 + width, y0 + height))
        if room[row, column] >= _COMFORT:
            return label
        if best is None or room[row, column] > best[0]:
            best = float(room[row, column]), label
    return best[1] if best else None


def _coarse(mask: Mask, size: tuple[int, int]) -> tuple[Mask, float]:
    """The mask on a grid that is coarse enough, and the side of a cell in the picture's pixels."""
    step = max(1, min(mask.shape) // _GRID_PX)
    return mask[step // 2 :: step, step // 2 :: step], step * size[0] / mask.shape[0]


def _room(mask: Mask, plate: tuple[float, float]) -> NDArray[np.float64]:
    """Distance of each cell to the mask's outside, in half heights and half widths of the plate.

    At 1 the ellipse inside the plate just fits into the mask; at 1.41 the whole plate does.
    """
    sampling = (2 / plate[0], 2 / plate[1])
    distance = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=sampling)
    return np.asarray(distance)[1:-1, 1:-1]


def _free(
    shape: tuple[int, ...], cell: float, plate: tuple[int, int], placed: list[Label]
) -> NDArray[np.bool_]:
    """Cells around which a plate would touch no name that is already placed."""
    free = np.ones(shape, dtype=bool)
    for label in placed:
        x0, y0, x1, y1 = label.box
        rows = slice(*_cells(y0 - plate[0] / 2, y1 + plate[0] / 2, cell))
        columns = slice(*_cells(x0 - plate[1] / 2, x1 + plate[1] / 2, cell))
        free[rows, columns] = False
    return free


def _cells(start: float, stop: float, cell: float) -> tuple[int, int]:
    return max(0, int(start / cell - 0.5)), max(0, int(stop / cell + 1.5))


def _layouts(text: str) -> list[str]:
    """The name on one line and, if it has several words, on two of similar length."""
    words = text.split(" ")
    splits = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words))]
    best = min(splits, key=lambda lines: max(map(len, lines)), default=None)
    return [text] if best is None else [text, "\n".join(best)]


def _plate(text: str, font_size: int) -> tuple[int, int]:
    """Height and width of the plate behind a text, pixels."""
    lines = text.split("\n")
    width = max(font(font_size).getlength(line) for line in lines)
    height = len(lines) * font_size + (len(lines) - 1) * _spacing(font_size)
    return round(height + 0.45 * font_size), round(width + 0.8 * font_size)


def _spacing(font_size: int) -> int:
    return round(0.1 * font_size)
