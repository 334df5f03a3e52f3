"""Test-time augmentation of semantic results: several sizes and a mirror image, averaged."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from frozenseg.data.augmentation import resize_for_test
from frozenseg.inference.predictor import Predictor, Size
from frozenseg.structures import Result


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The variants that an image is shown as: one for each short side, with ``flip`` two, pixels.

    The short side is less where the long one would exceed ``long_side``.
    """

    short_sides: tuple[int, ...]
    long_side: int
    flip: bool = True


class _Variant(NamedTuple):
    image: Tensor
    sam_masks: list[Tensor] | None  # of the one image
    flipped: bool


class AugmentedPredictor:
    """A predictor whose semantic maps are means over an image's variants.

    Maps are averaged at the output size. Panoptic and instance results are those of the image as it
    is. SAM's masks are made once, of the original, and mirrored with it.
    """

    def __init__(self, predictor: Predictor, augmentation: Augmentation) -> None:
        asked = predictor.postprocess
        self.predictor, self.augmentation = predictor, augmentation
        self.semantic = predictor.with_postprocess(
            replace(asked, panoptic=False, instance=False, proposals=False)
        )
        self.has_others = asked.panoptic or asked.instance or asked.proposals
        self.others = predictor.with_postprocess(replace(asked, semantic=False))

    def __call__(
        self,
        images: list[Tensor],
        output_sizes: list[Size] | None = None,
        originals: list[Tensor] | None = None,
    ) -> list[Result]:
        """As of ``Predictor``; the variants are made of ``originals`` (the images by default)."""
        sizes = output_sizes or [(image.shape[-2], image.shape[-1]) for image in images]
        pictures = originals or images
        sam_masks = self.predictor.sam_masks(pictures)
        results = [Result()] * len(images)
        if self.has_others:
            results = self.others.segment(images, sizes, sam_masks)
        return [
            replace(
                result,
                semantic=self._mean_maps(
                    pictures[index], sizes[index], None if sam_masks is None else sam_masks[index]
                ),
            )
            for index, result in enumerate(results)
        ]

    @torch.inference_mode()
    def _mean_maps(self, picture: Tensor, size: Size, sam_masks: Tensor | None) -> Tensor:
        variants = list(self._variants(picture, sam_masks))
        total: Tensor | None = None
        for variant in variants:
            (result,) = self.semantic.segment([variant.image], [size], variant.sam_masks)
            assert result.semantic is not None, "semantic output was asked for"
            maps = result.semantic.flip(-1) if variant.flipped else result.semantic
            total = maps if total is None else total + maps
        assert total is not None, "there is at least one variant"
        return total / len(variants)

    def _variants(self, picture: Tensor, sam_masks: Tensor | None) -> Iterator[_Variant]:
        masks = None if sam_masks is None else [sam_masks]
        mirrored = None if sam_masks is None else [sam_masks.flip(-1)]
        for short_side in self.augmentation.short_sides:
            image = resize_for_test(picture, short_side, self.augmentation.long_side)
            yield _Variant(image, masks, flipped=False)
            if self.augmentation.flip:
                yield _Variant(image.flip(-1), mirrored, flipped=True)
