"""Class names on a drawing: each inside its segment, none on top of another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from frozenseg.visualization.palette import Color

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_GRID_CELLS = 256  # positions are searched on a grid with at most this many cells per short side
_LINE_LENGTH = 14  # characters; longer names are broken into two lines
_PLATE_COLOR = (22, 25, 32, 215)


class LabelRequest(NamedTuple):
    """A name to place: its segment's mask, (H, W) at any resolution, and the segment's colour."""

    mask: Mask
    text: str
    color: Color


@dataclass(frozen=True)
class Label:
    """A placed name: its plate covers ``box`` (x0, y0, x1, y1), pixels of the drawing."""

    text: str  # with line breaks
    color: Color
    font_size: int
    box: Box


def place_labels(
    requests: Iterable[LabelRequest], size: tuple[int, int], *, font_size: int
) -> tuple[Label, ...]:
    """Places names on a drawing of ``size`` (height, width), pixels; earlier ones choose first.

    A name is centred where its plate is farthest from the border of its segment. It is omitted if
    it would overlap another name everywhere in the segment.
    """
    placed: list[Label] = []
    for mask, text, color in requests:
        lines = broken(text)
        box = _find_box(mask, size, _plate_size(lines, font_size), [each.box for each in placed])
        if box is not None:
            placed.append(Label(lines, color, font_size, box))
    return tuple(placed)


def draw_labels(picture: Image.Image, labels: Iterable[Label]) -> None:
    """Draws each name in white on a dark plate with a border in the segment's colour."""
    draw = ImageDraw.Draw(picture, "RGBA")
    for label in labels:
        x0, y0, x1, y1 = label.box
        draw.rounded_rectangle(
            label.box,
            radius=round(0.45 * label.font_size),
            fill=_PLATE_COLOR,
            outline=label.color,
            width=max(1, round(0.08 * label.font_size)),
        )
        draw.multiline_text(
            ((x0 + x1) / 2, (y0 + y1) / 2),
            label.text,
            font=font(label.font_size),
            fill="white",
            anchor="mm",
            align="center",
            spacing=_line_spacing(label.font_size),
        )


def label_at(
    corner: tuple[float, float], text: str, size: tuple[int, int], *, color: Color, font_size: int
) -> Label:
    """A label whose lower left corner is at ``corner`` (x, y), moved inside the drawing.

    Args:
        corner: (x, y), pixels.
        text: the name.
        size: (height, width) of the drawing, pixels.
        color: of the plate's border, RGB.
        font_size: pixels.
    """
    height, width = _plate_size(text, font_size)
    x0 = round(max(0, min(corner[0], size[1] - width)))
    y0 = round(max(0, min(corner[1] - height, size[0] - height)))
    return Label(text, color, font_size, (x0, y0, x0 + width, y0 + height))


@cache
def font(size: int) -> Font:
    """Pillow's default font at ``size`` pixels."""
    return ImageFont.load_default(size)


def broken(text: str) -> str:
    """A long name of several words on two lines of similar length."""
    words = text.split(" ")
    if len(text) <= _LINE_LENGTH or len(words) == 1:
        return text
    splits = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words))]
    return "\n".join(min(splits, key=lambda lines: max(map(len, lines))))


def _find_box(
    mask: Mask, size: tuple[int, int], plate: tuple[int, int], taken: Sequence[Box]
) -> Box | None:
    """The box of a ``plate`` (height, width) whose centre is deepest inside the mask."""
    step = max(1, min(mask.shape) // _GRID_CELLS)
    coarse = mask[step // 2 :: step, step // 2 :: step]
    cell = step * size[0] / mask.shape[0]  # side of a grid cell, pixels of the drawing
    depth = _depth(coarse, (plate[0] / cell, plate[1] / cell))
    y, x = (_centers(*each, cell) for each in zip(coarse.shape, size, plate, strict=True))
    for x0, y0, x1, y1 in taken:
        near_y = abs(y - (y0 + y1) / 2) <= (plate[0] + y1 - y0) / 2
        near_x = abs(x - (x0 + x1) / 2) <= (plate[1] + x1 - x0) / 2
        depth[np.ix_(near_y, near_x)] = 0
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    if not depth[row, column]:
        return None
    top, left = int(y[row] - plate[0] / 2), int(x[column] - plate[1] / 2)
    return left, top, left + plate[1], top + plate[0]


def _centers(num_cells: int, size: int, plate: int, cell: float) -> NDArray[np.floating]:
    """Position of a plate's centre for each grid cell, such that the plate is on the drawing."""
    lowest = plate / 2
    return np.clip((np.arange(num_cells) + 0.5) * cell, lowest, max(lowest, size - lowest))


def _depth(mask: Mask, plate: tuple[float, float]) -> NDArray[np.float64]:
    """Each cell's distance to the outside of the mask, in half heights and half widths of a plate.

    A wide plate therefore prefers wide places to high ones.
    """
    from scipy import ndimage  # slow to import, and needed only for drawings

    sampling = (2 / plate[0], 2 / plate[1])
    distance = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=sampling)
    return np.asarray(distance)[1:-1, 1:-1]


def _plate_size(text: str, font_size: int) -> tuple[int, int]:
    """(height, width) of the plate behind a text, pixels."""
    lines = text.split("\n")
    width = max(font(font_size).getlength(line) for line in lines)
    height = len(lines) * font_size + (len(lines) - 1) * _line_spacing(font_size)
    return round(height + 0.45 * font_size), round(width + 0.8 * font_size)


def _line_spacing(font_size: int) -> int:
    return round(0.1 * font_size)
