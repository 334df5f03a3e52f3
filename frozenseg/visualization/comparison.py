"""Segmentations of one image side by side, with frames where two of them differ."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from frozenseg.structures import PanopticMap
from frozenseg.visualization.draw import DrawingStyle, draw_panoptic, draw_semantic
from frozenseg.visualization.highlight_boxes import Box, differing_boxes, with_box
from frozenseg.visualization.layout import enlarged
from frozenseg.vocabulary.vocabulary import Vocabulary

ClassMap = PanopticMap | Tensor  # a panoptic map, or (H, W) class ids


def comparison_row(
    image: Tensor, maps: Sequence[ClassMap], vocabulary: Vocabulary, *, boxes: bool
) -> list[Image.Image]:
    """Draws the image, then each map over it.

    Args:
        image: (3, H, W) uint8 RGB.
        maps: of the size of the image.
        vocabulary: the classes of the maps.
        boxes: frame the regions where the classes of the first two maps differ most, in all panels.
    """
    pixels = image.permute(1, 2, 0).numpy()
    frames: list[Box] = []
    if boxes:
        first, second = (class_ids_of(each) for each in maps[:2])
        frames = differing_boxes(first, second)
    panel = enlarged(pixels)
    for box in frames:
        panel = with_box(panel, box, (pixels.shape[0], pixels.shape[1]))
    style = DrawingStyle(colors=vocabulary.colors, frames=frames)
    return [panel, *(_draw(pixels, each, vocabulary.names, style) for each in maps)]


def class_ids_of(shown: ClassMap) -> NDArray[np.integer]:
    """(H, W) class ids; -1 for pixels of a panoptic map that belong to no segment."""
    if isinstance(shown, Tensor):
        return shown.numpy()
    class_ids = np.full(shown.ids.shape, -1)
    for segment in shown.segments:
        class_ids[shown.ids.numpy() == segment.id] = segment.class_id
    return class_ids


def _draw(
    pixels: NDArray[np.uint8], shown: ClassMap, names: Sequence[str], style: DrawingStyle
) -> Image.Image:
    if isinstance(shown, Tensor):
        return draw_semantic(pixels, shown, names, style)
    return draw_panoptic(pixels, shown, names, style)
