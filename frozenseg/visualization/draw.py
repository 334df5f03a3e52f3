"""Drawings of results: segments are tinted, outlined and named on the image they belong to."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFilter

from frozenseg.structures import Instances, PanopticMap
from frozenseg.visualization.highlight_boxes import Box, with_box
from frozenseg.visualization.labels import LabelRequest, draw_labels, place_labels
from frozenseg.visualization.layout import enlarged, font_size_for
from frozenseg.visualization.painting import Void, dimmed, hatched, paint
from frozenseg.visualization.palette import Color, class_color

Pixels = NDArray[np.uint8]

SHOWN_SCORE = 0.5  # instances with a lower score are not drawn by default
_COUNTED_PIXELS = 1 << 20
_SMALLEST_NAMED = 0.001  # share of the image; smaller segments are drawn without a name


class DrawingStyle(NamedTuple):
    """Options of all drawings.

    Args:
        colors: RGB by class id; None takes :func:`class_color`.
        alpha: opacity of the segments' colours, 0 to 1.
        scores: write the score beside each name.
        enlarge: enlarge small images, as figures do; otherwise the drawing has the image's size.
        frames: boxes to draw around regions of interest, in pixels of the image.
    """

    colors: Sequence[Color] | None = None
    alpha: float = 0.6
    scores: bool = False
    enlarge: bool = True
    frames: Sequence[Box] = ()


DEFAULT_STYLE = DrawingStyle()


class _Region(NamedTuple):
    """One value of an id map: its class and its score, NaN if the task has none."""

    class_id: int
    score: float = float("nan")


def draw_panoptic(
    image: Pixels,
    panoptic: PanopticMap,
    names: Sequence[str],
    style: DrawingStyle = DEFAULT_STYLE,
) -> Image.Image:
    """Draws a panoptic map over the image; pixels without a segment (void) are hatched.

    Args:
        image: (H, W, 3) uint8 RGB.
        panoptic: the map, of the same size as the image.
        names: class names by class id.
        style: colours, opacity and size of the drawing.
    """
    regions = {each.id: _Region(each.class_id, each.score) for each in panoptic.segments}
    ids = np.where(np.isin(panoptic.ids, list(regions)), panoptic.ids, 0)
    return _draw(image, ids, regions, names, style, void=hatched)


def draw_semantic(
    image: Pixels, class_ids: ArrayLike, names: Sequence[str], style: DrawingStyle = DEFAULT_STYLE
) -> Image.Image:
    """Draws a semantic map over the image; ids without a name are void and hatched.

    Args:
        image: (H, W, 3) uint8 RGB.
        class_ids: (H, W) class ids.
        names: class names by class id.
        style: colours, opacity and size of the drawing.
    """
    class_ids = np.asarray(class_ids)
    known = (class_ids >= 0) & (class_ids < len(names))
    ids = np.where(known, class_ids + 1, 0)
    regions = {int(number): _Region(int(number) - 1) for number in np.unique(ids) if number}
    return _draw(image, ids, regions, names, style, void=hatched)


def draw_instances(
    image: Pixels,
    instances: Instances,
    names: Sequence[str],
    style: DrawingStyle = DEFAULT_STYLE,
    *,
    min_score: float = SHOWN_SCORE,
) -> Image.Image:
    """Draws instances over the dimmed image, higher scores in front.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: scored masks, best first, of the same size as the image.
        names: class names by class id.
        style: colours, opacity and size of the drawing.
        min_score: instances with a lower score are not drawn.
    """
    ids = np.zeros(np.shape(image)[:2], dtype=np.int64)
    rows = zip(instances.class_ids.tolist(), instances.scores.tolist(), strict=True)
    regions = {
        rank: _Region(class_id, score)
        for rank, (class_id, score) in enumerate(rows, start=1)
        if score >= min_score
    }
    for rank in reversed(regions):
        ids[np.asarray(instances.masks[rank - 1])] = rank
    return _draw(image, ids, regions, names, style, void=dimmed)


def _draw(
    image: Pixels,
    ids: NDArray[np.integer],
    regions: Mapping[int, _Region],
    names: Sequence[str],
    style: DrawingStyle,
    *,
    void: Void,
) -> Image.Image:
    """Paints an (H, W) id map; ``regions`` describes each id, 0 is void."""
    if ids.shape != image.shape[:2]:
        raise ValueError(f"the image has {image.shape[:2]} pixels but its map has {ids.shape}")
    areas = _areas(ids)
    present = [number for number in regions if number < len(areas) and areas[number]]
    palette = {number: _color(regions[number].class_id, style.colors) for number in present}
    picture = enlarged(image) if style.enlarge else Image.fromarray(np.ascontiguousarray(image))
    smooth = _resize_ids(ids, [0, *present], picture.size)
    picture = paint(picture, smooth, palette, alpha=style.alpha, void=void)
    for box in style.frames:  # below the names, which stay readable
        picture = with_box(picture, box, (ids.shape[0], ids.shape[1]))
    requests = (
        LabelRequest(ids == number, _label(regions[number], names, style), palette[number])
        for number in sorted(present, key=lambda number: areas[number])  # small ones choose first
        if areas[number] >= _SMALLEST_NAMED * ids.size
    )
    size = picture.height, picture.width
    draw_labels(picture, place_labels(requests, size, font_size=font_size_for(size)))
    return picture


def _areas(ids: NDArray[np.integer]) -> NDArray[np.integer]:
    """Pixels of each id, counted in parts, as NumPy counts a copy of 8 bytes a pixel."""
    size = int(ids.max()) + 1
    parts = np.array_split(ids, 1 + ids.size // _COUNTED_PIXELS)
    return np.sum([np.bincount(part.ravel(), minlength=size) for part in parts], axis=0)


def _color(class_id: int, colors: Sequence[Color] | None) -> Color:
    return class_color(class_id) if colors is None else colors[class_id]


def _label(region: _Region, names: Sequence[str], style: DrawingStyle) -> str:
    name = names[region.class_id]
    return f"{name} {region.score:.2f}" if style.scores and region.score == region.score else name


def _resize_ids(
    ids: NDArray[np.integer], present: Sequence[int], size: tuple[int, int]
) -> NDArray[np.integer]:
    """Resizes an id map to ``size`` (width, height) with smooth outlines: the highest mask wins."""
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
