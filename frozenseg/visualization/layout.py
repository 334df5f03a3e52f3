"""Sizes of drawings, and arranging them in rows, columns and grids under titles."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from frozenseg.visualization.labels import Font, font

SHORT_SIDE_PX = 768  # smaller images are enlarged to this in figures, for readable names
LONG_SIDE_PX = 2048  # limit of the enlargement
GRID_WIDTH_PX = 640  # width of one image in a grid
_INK = (40, 44, 52)


def side_by_side(images: Sequence[Image.Image], titles: Sequence[str] = ()) -> Image.Image:
    """Arranges pictures in a row at one height, each below its title."""
    height = max(image.height for image in images)
    panels = [_with_height(image, height) for image in images]
    gap, points = font_size_for((height, height)), round(1.2 * font_size_for((height, height)))
    top = 2 * points if titles else gap // 2
    width = sum(panel.width for panel in panels) + gap * len(panels)
    row = Image.new("RGB", (width, top + height + gap // 2), "white")
    draw, left = ImageDraw.Draw(row), gap // 2
    for index, panel in enumerate(panels):
        row.paste(panel, (left, top))
        if titles:
            middle = (left + panel.width / 2, top / 2)
            draw.text(middle, titles[index], font=font(points), fill=_INK, anchor="mm")
        left += panel.width + gap
    return row


def stacked(rows: Sequence[Image.Image]) -> Image.Image:
    """Stacks pictures vertically on a white background."""
    sheet = Image.new(
        "RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white"
    )
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def grid(
    rows: Sequence[Sequence[Image.Image]], titles: Sequence[str], *, width: int = GRID_WIDTH_PX
) -> Image.Image:
    """Arranges pictures in a grid, each resized to ``width`` pixels, each column with a title."""
    gap, points = max(6, width // 64), max(14, width // 22)
    panels = [[_with_width(picture, width) for picture in row] for row in rows]
    heights = [max(panel.height for panel in row) for row in panels]
    top = 2 * points
    size = (len(titles) * (width + gap) + gap, top + sum(heights) + len(heights) * gap)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        middle = (gap + column * (width + gap) + width / 2, top / 2)
        letters = _fitting(title, width, points)
        draw.text(middle, title, font=letters, fill=_INK, anchor="mm")
    for row, height in zip(panels, heights, strict=True):
        for column, panel in enumerate(row):
            sheet.paste(panel, (gap + column * (width + gap), top))
        top += height + gap
    return sheet


def enlarged(image: NDArray[np.uint8]) -> Image.Image:
    """The (H, W, 3) image at the size of drawings in figures; never smaller than it is."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    return picture.resize(_drawn_size(picture.size), Image.Resampling.LANCZOS)


def _drawn_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the enlarged image for an image of ``size`` (width, height)."""
    scale = max(1.0, min(SHORT_SIDE_PX / min(size), LONG_SIDE_PX / max(size)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _with_height(picture: Image.Image, height: int) -> Image.Image:
    if picture.height == height:
        return picture
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _with_width(picture: Image.Image, width: int) -> Image.Image:
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _fitting(text: str, width: int, points: int) -> Font:
    """The font at ``points`` pixels, or smaller if the text would be wider than ``width``."""
    share = min(1.0, width / max(1.0, font(points).getlength(text)))
    return font(max(1, int(points * share)))


def font_size_for(size: tuple[int, int]) -> int:
    """Font size in pixels for a picture of ``size`` (height, width)."""
    return max(14, round(0.034 * min(size)))
