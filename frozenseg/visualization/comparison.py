"""Several answers to one image beside each other, with frames where two of them differ."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from frozenseg.structures import PanopticMap
from frozenseg.visualization.draw import draw_panoptic, draw_semantic, enlarged
from frozenseg.visualization.highlight_boxes import Box, differing_boxes, with_box
from frozenseg.vocabulary.vocabulary import Vocabulary

Shown = PanopticMap | Tensor  # a panoptic map, or (H, W) class ids


def comparison_row(
    image: Tensor, maps: Sequence[Shown], words: Vocabulary, *, boxes: bool
) -> list[Image.Image]:
    """The (3, H, W) uint8 image, then each map over it.

    Args:
        boxes: frame, in all of them, the places where the first two maps' classes differ most.
    """
    pixels = image.permute(1, 2, 0).numpy()
    frames: list[Box] = []
    if boxes:
        first, second = (class_ids_of(shown) for shown in maps[:2])
        frames = differing_boxes(first, second)
    panel = enlarged(pixels)
    for box in frames:
        panel = with_box(panel, box, (pixels.shape[0], pixels.shape[1]))
    return [panel, *(_drawn(pixels, shown, words, frames) for shown in maps)]


def class_ids_of(shown: Shown) -> NDArray[np.integer]:
    """(H, W) class ids; of a panoptic map, -1 where there is no segment."""
    if isinstance(shown, Tensor):
        return shown.numpy()
    class_ids = np.full(shown.ids.shape, -1)
    for segment in shown.segments:
        class_ids[shown.ids.numpy() == segment.id] = segment.class_id
    return class_ids


def _drawn(
    pixels: NDArray[np.uint8], shown: Shown, words: Vocabulary, frames: Sequence[Box]
) -> Image.Image:
    names, colors = words.names, words.colors
    if isinstance(shown, Tensor):
        return draw_semantic(pixels, shown, names, colors=colors, frames=frames)
    return draw_panoptic(pixels, shown, names, colors=colors, frames=frames)
