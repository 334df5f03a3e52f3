"""Batches of mined pairs: a random resized crop of each region and its mask, and the noun."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frozenseg.data.augmentation import Box
from frozenseg.data.pairs import Pair, read_crop
from frozenseg.ops.maps import Size, size_of
from frozenseg.training.loader import batch_stream
from frozenseg.training.sampler import InfiniteSampler, Visit

SCALE, RATIO = (0.9, 1.0), (3 / 4, 4 / 3)  # of the random resized crop (OVSeg's released training)
ATTEMPTS = 10  # at a crop that fits into the region


class PairItem(NamedTuple):
    """One augmented pair."""

    crop: Tensor  # (3, S, S) uint8
    mask: Tensor  # (S, S) bool
    title: str
    name: str  # of the crop's file


class PairBatch(NamedTuple):
    """Pairs of one process."""

    images: Tensor  # (B, 3, S, S) uint8
    masks: Tensor  # (B, S, S) bool
    titles: list[str]
    names: list[str]  # of files, for error messages
    visits: int  # of the sampler


class AugmentedPairs:
    """Reads and augments pairs; the seed and the visit's position determine the augmentation.

    Args:
        path: the list of pairs, whose folder holds the crops.
        pairs: its rows.
        size: (height, width) of the CLIP's images, pixels.
        seed: of the augmentation.
    """

    def __init__(self, path: Path, pairs: Sequence[Pair], *, size: Size, seed: int) -> None:
        self.path, self.pairs, self.size, self.seed = path, pairs, size, seed

    def __call__(self, visit: Visit) -> PairItem:
        pair = self.pairs[visit.index]
        crop, mask = read_crop(self.path.parent, pair, source=self.path)
        box = random_box(size_of(crop), np.random.default_rng((self.seed, visit.position)))
        return PairItem(*resized_part(crop, mask, box, self.size), pair.title, pair.filepath)


def pair_batches(
    pairs: AugmentedPairs, *, order: InfiniteSampler, batch_size: int, num_workers: int = 0
) -> Iterator[PairBatch]:
    """Yields one process's batches of the stream that all processes share.

    Args:
        pairs: reads and augments.
        order: of the visits of this process.
        batch_size: pairs per batch of this process.
        num_workers: processes that read; 0: this one.

    Raises:
        UserError: a crop is missing or damaged.
    """
    return batch_stream(
        pairs, join_pairs, order=order, batch_size=batch_size, num_workers=num_workers
    )


def join_pairs(items: Sequence[PairItem], visits: int) -> PairBatch:
    """Joins augmented pairs to a batch."""
    crops, masks, titles, names = zip(*items, strict=True)
    return PairBatch(torch.stack(crops), torch.stack(masks), list(titles), list(names), visits)


def random_box(size: Size, generator: np.random.Generator) -> Box:
    """Draws a part of 90 to 100 % of the area and a side ratio of 3/4 to 4/3; else everything."""
    height, width = size
    for _ in range(ATTEMPTS):
        area = height * width * generator.uniform(*SCALE)
        ratio = math.exp(generator.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(generator.integers(height - h + 1))
            left = int(generator.integers(width - w + 1))
            return Box(top, left, top + h, left + w)
    return Box(0, 0, height, width)


def resized_part(crop: Tensor, mask: Tensor, box: Box, size: Size) -> tuple[Tensor, Tensor]:
    """Cuts the same part out of a crop and its mask and resizes it to ``size``.

    The crop is resized by Pillow's antialiased bicubic filter, the mask by the nearest pixel.

    Args:
        crop: (3, H, W) uint8.
        mask: (H, W) bool.
        box: the part.
        size: (height, width) of the results, pixels.
    """
    part = (slice(box.top, box.bottom), slice(box.left, box.right))
    target = (size[1], size[0])
    rgb = Image.fromarray(crop[:, *part].permute(1, 2, 0).contiguous().numpy())
    grey = Image.fromarray(mask[part].to(torch.uint8).numpy())
    pixels = np.array(rgb.resize(target, Image.Resampling.BICUBIC))
    inside = np.array(grey.resize(target, Image.Resampling.NEAREST))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), torch.from_numpy(inside) > 0
