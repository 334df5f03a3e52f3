"""Drawings of images, annotations and results."""

from frozenseg.visualization.draw import (
    DrawingStyle,
    draw_instances,
    draw_panoptic,
    draw_semantic,
)
from frozenseg.visualization.layout import enlarged, grid, side_by_side, stacked

__all__ = [
    "DrawingStyle",
    "draw_instances",
    "draw_panoptic",
    "draw_semantic",
    "enlarged",
    "grid",
    "side_by_side",
    "stacked",
]
