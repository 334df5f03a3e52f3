"""Scenes of the shapes world to try the miniature model with."""

from io import BytesIO
from typing import NamedTuple

from PIL import Image

from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary

SCENES = (19, 28, 42, 7)  # of the validation split; each contains unseen classes


class Example(NamedTuple):
    """An image and the class names of what it shows."""

    png: bytes
    words: str


def example_scenes() -> list[Example]:
    """The scenes, with all classes that each shows, seen and unseen ones."""
    return [_example(scene) for scene in SCENES]


def _example(scene: int) -> Example:
    sample, vocabulary = ShapesDataset("val")[scene], shapes_vocabulary("val")
    assert sample.panoptic is not None, "scenes have a panoptic annotation"
    present = sorted({segment.class_id for segment in sample.panoptic.segments})
    words = [vocabulary.names[k] + ("" if vocabulary.is_thing[k] else " [stuff]") for k in present]
    content = BytesIO()
    Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(content, format="PNG")
    return Example(content.getvalue(), "; ".join(words))
