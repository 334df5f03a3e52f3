"""Drawings of SAM masks."""

import torch
from PIL import Image
from torch import Tensor

from frozenseg.sam_masks.generator import SamMasks
from frozenseg.structures import PanopticMap, Segment
from frozenseg.visualization.draw import draw_panoptic
from frozenseg.visualization.layout import enlarged, side_by_side


def draw_masks(image: Tensor, masks: SamMasks) -> Image.Image:
    """Draws the (3, H, W) image beside its masks, smaller ones in front, with predicted IoU.

    Pixels without a mask are hatched.
    """
    ids = torch.zeros(image.shape[-2:], dtype=torch.int32)
    for number, mask in enumerate(masks.logits() > 0, start=1):  # the largest comes first
        ids[mask] = number
    shown = PanopticMap(
        ids, tuple(Segment(id=row + 1, class_id=row, is_thing=True) for row in range(len(masks)))
    )
    names = [f"{value:.2f}" for value in masks.predicted_iou.tolist()]
    pixels = image.permute(1, 2, 0).numpy()
    pictures = [enlarged(pixels), draw_panoptic(pixels, shown, names)]
    return side_by_side(pictures, ["image", f"{len(masks)} masks, predicted IoU"])
