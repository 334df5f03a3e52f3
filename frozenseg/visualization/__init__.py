"""Pictures of results."""

from frozenseg.visualization.draw import (
    draw_instances,
    draw_panoptic,
    draw_semantic,
    enlarged,
    grid,
    side_by_side,
    stacked,
)

__all__ = [
    "draw_instances",
    "draw_panoptic",
    "draw_semantic",
    "enlarged",
    "grid",
    "side_by_side",
    "stacked",
]
