"""The shapes world: procedural scenes of named things and stuff, with panoptic ground truth.

>>> sample = ShapesDataset("val")[0]
"""

from frozenseg.data.shapes.dataset import ShapesDataset
from frozenseg.data.shapes.words import all_names, shapes_vocabulary

__all__ = ["ShapesDataset", "all_names", "shapes_vocabulary"]
