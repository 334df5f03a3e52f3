"""Pictures of results: segments tinted, outlined and named, beside the image they belong to."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from frozenseg.structures import Instances, PanopticMap
from frozenseg.visualization.highlight_boxes import Box, with_box
from frozenseg.visualization.labels import Font, LabelRequest, draw_labels, font, place_labels
from frozenseg.visualization.palette import Color, class_color

Pixels = NDArray[np.uint8]
Colors = NDArray[np.floating]  # (H, W, 3), 0..255

SHORT_SIDE_PX = 768  # smaller images are enlarged to this, so that names can be read
LONG_SIDE_PX = 2048  # but no further than to this
GRID_WIDTH_PX = 640  # of one picture among many
SHOWN_SCORE = 0.5  # instances below it are not drawn
_TINT = 0.6
_SMALLEST_NAMED = 0.001  # of the image: smaller segments are drawn without their name


def draw_panoptic(
    image: Pixels,
    panoptic: PanopticMap,
    names: Sequence[str],
    *,
    colors: Sequence[Color] | None = None,
    frames: Sequence[Box] = (),
) -> Image.Image:
    """The image under its panoptic map: segments in their classes' colours, named; void is hatched.

    Args:
        image: (H, W, 3) uint8 RGB; the map has the same size.
        names: of the classes, by class id.
        colors: of the classes; None takes those of :func:`class_color`.
        frames: around what is pointed at, in pixels of the image.
    """
    classes = {segment.id: segment.class_id for segment in panoptic.segments}
    ids = np.where(np.isin(panoptic.ids, list(classes)), panoptic.ids, 0)
    return _draw(image, ids, classes, names, colors, void=_hatched, frames=frames)


def draw_semantic(
    image: Pixels,
    class_ids: ArrayLike,
    names: Sequence[str],
    *,
    colors: Sequence[Color] | None = None,
    frames: Sequence[Box] = (),
) -> Image.Image:
    """The image under its (H, W) class ids; ids without a name are void and hatched."""
    class_ids = np.asarray(class_ids)
    known = (class_ids >= 0) & (class_ids < len(names))
    ids = np.where(known, class_ids + 1, 0)
    classes = {int(number): int(number) - 1 for number in np.unique(ids) if number}
    return _draw(image, ids, classes, names, colors, void=_hatched, frames=frames)


def draw_instances(
    image: Pixels,
    instances: Instances,
    names: Sequence[str],
    *,
    colors: Sequence[Color] | None = None,
    min_score: float = SHOWN_SCORE,
) -> Image.Image:
    """The image dimmed but for instances scored at least ``min_score``, better ones in front."""
    ids = np.zeros(np.shape(image)[:2], dtype=np.int64)
    shown = [row for row, score in enumerate(instances.scores.tolist()) if score >= min_score]
    for row in reversed(shown):
        ids[np.asarray(instances.masks[row])] = row + 1
    classes = {row + 1: int(instances.class_ids[row]) for row in shown}
    return _draw(image, ids, classes, names, colors, void=_dimmed)


def side_by_side(images: Sequence[Image.Image], titles: Sequence[str] = ()) -> Image.Image:
    """Pictures in a row, brought to one height, each under its title."""
    height = max(image.height for image in images)
    panels = [_with_height(image, height) for image in images]
    gap, points = _points((height, height)), round(1.2 * _points((height, height)))
    top = 2 * points if titles else gap // 2
    width = sum(panel.width for panel in panels) + gap * len(panels)
    row = Image.new("RGB", (width, top + height + gap // 2), "white")
    draw, left = ImageDraw.Draw(row), gap // 2
    for index, panel in enumerate(panels):
        row.paste(panel, (left, top))
        if titles:
            middle = (left + panel.width / 2, top / 2)
            draw.text(middle, titles[index], font=font(points), fill=(40, 44, 52), anchor="mm")
        left += panel.width + gap
    return row


def stacked(rows: Sequence[Image.Image]) -> Image.Image:
    """Pictures one under the other, on white."""
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
    """Pictures in rows and columns, each brought to ``width``, the columns under their titles."""
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
        draw.text(middle, title, font=letters, fill=(40, 44, 52), anchor="mm")
    for row, height in zip(panels, heights, strict=True):
        for column, panel in enumerate(row):
            sheet.paste(panel, (gap + column * (width + gap), top))
        top += height + gap
    return sheet


def enlarged(image: Pixels) -> Image.Image:
    """The image at the size in which results are drawn on it."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    return picture.resize(_drawn_size(picture.size), Image.Resampling.LANCZOS)


def _draw(
    image: Pixels,
    ids: NDArray[np.integer],
    classes: dict[int, int],
    names: Sequence[str],
    colors: Sequence[Color] | None,
    *,
    void: Callable[[Colors], Colors],
    frames: Sequence[Box] = (),
) -> Image.Image:
    """Paints an (H, W) id map; ``classes`` gives the class id of each segment id, 0 is void."""
    if ids.shape != image.shape[:2]:
        raise ValueError(f"the image is {image.shape[:2]} pixels, its map {ids.shape}")
    areas = np.bincount(ids.ravel())
    present = [i for i in classes if i < len(areas) and areas[i]]
    palette = {
        i: class_color(classes[i]) if colors is None else colors[classes[i]] for i in present
    }
    picture = enlarged(image)
    pixels = np.asarray(picture).astype(np.float32)
    smooth = _resize_ids(ids, [0, *present], picture.size)
    painted = _paint(pixels, smooth, palette, void)
    picture = Image.fromarray(painted.round().astype(np.uint8))
    for box in frames:  # under the names, which stay readable
        picture = with_box(picture, box, (ids.shape[0], ids.shape[1]))
    wishes = (
        LabelRequest(ids == i, names[classes[i]], palette[i])
        for i in sorted(
            present, key=lambda i: areas[i]
        )  # the smaller, the fewer places to choose from
        if areas[i] >= _SMALLEST_NAMED * ids.size
    )
    size = picture.height, picture.width
    draw_labels(picture, place_labels(wishes, size, font_size=_points(size)))
    return picture


def _resize_ids(
    ids: NDArray[np.integer], present: Sequence[int], size: tuple[int, int]
) -> NDArray[np.integer]:
    """The id map at ``size`` (width, height), stairs smoothed: the strongest mask takes a pixel."""
    if size == ids.shape[::-1]:
        return ids
    best = np.zeros(size[::-1], dtype=np.uint8)
    resized = np.zeros(size[::-1], dtype=ids.dtype)
    for number in present:
        mask = Image.fromarray(np.where(ids == number, np.uint8(255), np.uint8(0)))
        mask = mask.filter(ImageFilter.GaussianBlur(1)).resize(size, Image.Resampling.BICUBIC)
        cover = np.asarray(mask)
        wins = cover > best
        best[wins], resized[wins] = cover[wins], number
    return resized


def _paint(
    pixels: Colors,
    ids: NDArray[np.integer],
    palette: dict[int, Color],
    void: Callable[[Colors], Colors],
) -> Colors:
    table = np.zeros((max(palette, default=0) + 1, 3), dtype=np.float32)
    for number, color in palette.items():
        table[number] = color
    grey = pixels.mean(axis=-1, keepdims=True)
    faded = (pixels + grey) / 2  # so that the tint stays pure
    tinted = (1 - _TINT) * faded + _TINT * table[ids]
    painted = np.where((ids == 0)[..., None], void(pixels), tinted)
    line = _outlines(ids)[..., None]
    return painted + line * (255 - painted)


def _outlines(ids: NDArray[np.integer]) -> NDArray[np.floating]:
    """Opacity of a soft line between segments, as wide as suits the picture."""
    width = max(1.0, min(ids.shape) / 450)
    reach = 2 * round(width / 2) + 1
    border = ndimage.maximum_filter(ids, reach) != ndimage.minimum_filter(ids, reach)
    soft = ndimage.gaussian_filter(border.astype(np.float32), width / 2)
    return np.clip(1.6 * soft, 0, 0.92)


def _hatched(pixels: Colors) -> Colors:
    """Grey and dark with diagonal stripes: nobody claims these pixels."""
    height, width = pixels.shape[:2]
    step = max(8, min(height, width) // 48)
    stripe = (np.arange(height)[:, None] + np.arange(width)) % step < step / 4
    return _dimmed(pixels) + 45 * stripe[..., None]


def _dimmed(pixels: Colors) -> Colors:
    """Grey and dark."""
    return 0.4 * pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1) + 12


def _drawn_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the picture for an image of that width and height; never smaller."""
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
    """The typeface at ``points``, or smaller where the text is wider than ``width``."""
    share = min(1.0, width / max(1.0, font(points).getlength(text)))
    return font(max(1, int(points * share)))


def _points(size: tuple[int, int]) -> int:
    """The font size for a picture of that height and width, pixels."""
    return max(14, round(0.034 * min(size)))
