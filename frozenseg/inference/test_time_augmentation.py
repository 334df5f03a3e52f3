"""Test-time augmentation of semantic output: the mean over several sizes and a mirror image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from frozenseg.data.augmentation import resize_for_test
from frozenseg.inference.predictor import Predictor
from frozenseg.structures import InputImage, Result


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The sizes at which an image is segmented, pixels.

    Args:
        short_sides: one variant each.
        long_side: the short side is smaller where the long one would exceed this.
        flip: add the mirror image of each variant.
    """

    short_sides: tuple[int, ...]
    long_side: int
    flip: bool = True


class AugmentedPredictor:
    """A predictor whose semantic maps are means over the variants of an image.

    Maps are averaged at the output size. Panoptic and instance outputs come from the unchanged
    image. SAM's masks are computed once, from the original, and mirrored with it.
    """

    def __init__(self, predictor: Predictor, augmentation: Augmentation) -> None:
        wanted = predictor.settings
        self.predictor, self.augmentation = predictor, augmentation
        self.semantic = predictor.with_settings(
            replace(wanted, panoptic=False, instance=False, proposals=False, class_maps=True)
        )
        self.has_others = wanted.panoptic or wanted.instance or wanted.proposals
        self.others = predictor.with_settings(replace(wanted, semantic=False))

    @torch.inference_mode()
    def __call__(self, images: Sequence[InputImage]) -> list[Result]:
        """Segments images of any sizes, as ``Predictor`` does."""
        images = [self.predictor.with_sam_masks(image) for image in images]
        others = self.others(images) if self.has_others else [Result()] * len(images)
        return [
            self._with_semantic(result, self._mean_maps(image))
            for image, result in zip(images, others, strict=True)
        ]

    def _with_semantic(self, result: Result, maps: Tensor) -> Result:
        kept = maps if self.predictor.settings.class_maps else None
        return replace(result, semantic=maps.argmax(dim=0), class_maps=kept)

    def _mean_maps(self, image: InputImage) -> Tensor:
        total, count = None, 0
        for variant, flipped in self._variants(image):
            (result,) = self.semantic([variant])
            assert result.class_maps is not None, "class maps were asked for"
            maps = result.class_maps.flip(-1) if flipped else result.class_maps
            total, count = maps if total is None else total + maps, count + 1
        assert total is not None, "there is at least one variant"
        return total / count

    def _variants(self, image: InputImage) -> Iterator[tuple[InputImage, bool]]:
        for short_side in self.augmentation.short_sides:
            pixels = resize_for_test(image.original, short_side, self.augmentation.long_side)
            variant = image._replace(pixels=pixels.to(image.pixels.device))
            yield variant, False
            if self.augmentation.flip:
                yield mirrored(variant), True


def mirrored(image: InputImage) -> InputImage:
    """Returns the mirror image, with SAM's masks."""
    masks = image.sam_masks
    return image._replace(
        pixels=image.pixels.flip(-1),
        original=image.original.flip(-1),
        sam_masks=None if masks is None else masks.flip(-1),
    )
