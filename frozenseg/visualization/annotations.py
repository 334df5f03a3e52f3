"""Drawings of annotated samples."""

import numpy as np
import torch
from PIL import Image

from frozenseg.structures import Instances, Sample, boxes_of
from frozenseg.visualization import (
    DrawingStyle,
    draw_instances,
    draw_panoptic,
    draw_semantic,
    side_by_side,
)
from frozenseg.vocabulary.vocabulary import Vocabulary


def draw_sample(sample: Sample, vocabulary: Vocabulary) -> Image.Image:
    """The image beside one panel for each kind of annotation of the sample."""
    image, names = _pixels(sample), vocabulary.names
    style = DrawingStyle(colors=vocabulary.colors)
    panels = {"image": Image.fromarray(image)}
    if sample.panoptic is not None:
        panels["panoptic"] = draw_panoptic(image, sample.panoptic, names, style)
    if sample.semantic is not None:
        panels["semantic"] = draw_semantic(image, sample.semantic, names, style)
    if sample.instances is not None:
        panels["objects"] = draw_instances(image, _scored(sample), names, style)
    return side_by_side(list(panels.values()), list(panels))


def _pixels(sample: Sample) -> np.ndarray:
    return sample.image.permute(1, 2, 0).contiguous().numpy()


def _scored(sample: Sample) -> Instances:
    """Annotated objects as predictions of score 1, small ones first (drawn in front)."""
    objects = [each for each in sample.instances or () if not each.is_crowd]
    objects.sort(key=lambda each: int(each.mask.sum()))
    masks = torch.zeros(len(objects), *sample.image.shape[-2:], dtype=torch.bool)
    for row, each in enumerate(objects):
        masks[row] = each.mask
    class_ids = torch.tensor([each.class_id for each in objects], dtype=torch.int64)
    return Instances(class_ids, torch.ones(len(objects)), masks, boxes_of(masks))
