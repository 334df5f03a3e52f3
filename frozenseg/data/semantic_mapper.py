"""Training samples from label maps: one binary mask per class (MaskFormer)."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from frozenseg.data.augmentation import Box, pad_to_square, resize_image, resize_labels
from frozenseg.data.color_jitter import ColorJitter
from frozenseg.errors import UserError
from frozenseg.structures import Sample, Target

PADDING_VALUE = 128  # of every channel, beside an image that is smaller than the crop


@dataclass(frozen=True, kw_only=True)
class SemanticMapper:
    """Random size, fixed crop, colour jitter and flip of a sample with a label map.

    Args:
        crop_size: side of the square, pixels.
        short_sides: one is drawn for the short side of the image, pixels.
        max_size: largest long side; the aspect ratio is kept, pixels.
        flip: probability of a horizontal flip.
        color_jitter: None keeps the colours.
        ignore_label: value of unlabelled pixels, which belong to no target.
    """

    crop_size: int = 640
    short_sides: tuple[int, ...] = tuple(range(320, 1281, 64))
    max_size: int = 2560
    flip: float = 0.5
    color_jitter: ColorJitter | None = field(default_factory=ColorJitter)
    ignore_label: int = 255

    def __call__(self, sample: Sample, generator: np.random.Generator) -> tuple[Tensor, Target]:
        """Returns a (3, S, S) uint8 image and its target; the generator decides everything.

        Raises:
            UserError: the sample has no label map.
        """
        if sample.semantic is None:
            raise UserError(
                f"{sample.file_name} has no semantic annotation to train on: choose another data "
                "set for DATASETS.TRAIN"
            )
        height, width = sample.semantic.shape
        short_side = int(generator.choice(self.short_sides))
        size = shortest_edge_size((height, width), short_side, self.max_size)
        part = _draw_crop(size, self.crop_size, generator)
        image = resize_image(sample.image, size, part)
        labels = resize_labels(sample.semantic.int(), size, part)
        if self.color_jitter is not None:
            image = self.color_jitter(image, generator)
        if generator.random() < self.flip:
            image, labels = image.flip(-1), labels.flip(-1)
        image = pad_to_square(image, self.crop_size, fill=PADDING_VALUE)
        labels = pad_to_square(labels, self.crop_size, fill=self.ignore_label)
        return image, semantic_target(labels, ignore_label=self.ignore_label)


def semantic_target(labels: Tensor, *, ignore_label: int) -> Target:
    """Returns one target per class that an (H, W) label map shows, in the order of the classes."""
    class_ids = labels.unique().long()
    class_ids = class_ids[class_ids != ignore_label]
    return Target(class_ids, labels[None] == class_ids[:, None, None])


def shortest_edge_size(size: tuple[int, int], short_side: int, max_size: int) -> tuple[int, int]:
    """Returns the size with this short side, or with ``max_size`` as its long side if smaller.

    Args:
        size: (height, width) of the image, pixels.
        short_side: wanted short side, pixels.
        max_size: upper limit of the long side, pixels.
    """
    scale = min(short_side / min(size), max_size / max(size))
    height, width = (max(int(side * scale + 0.5), 1) for side in size)
    return height, width


def _draw_crop(size: tuple[int, int], crop_size: int, generator: np.random.Generator) -> Box:
    """A square crop anywhere, or all of a side that is smaller."""
    top, left = (int(generator.integers(max(side - crop_size, 0) + 1)) for side in size)
    return Box(top, left, min(top + crop_size, size[0]), min(left + crop_size, size[1]))
