"""Pairs of one image: each noun of its captions with the region that CLIP finds most like it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.data.augmentation import resize_for_test
from frozenseg.mining.nouns import find_nouns
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.protocols import Proposer, TextRows
from frozenseg.pipeline.region_classifiers.masked_crops import Crops, MaskedCrops
from frozenseg.structures import InputImage, Target
from frozenseg.towers.clip_vit import CropClip
from frozenseg.vocabulary.text_classifier import embed_words

NO_NOUN = "its captions have no noun"
NO_PROPOSAL = "the proposer found no mask in it"


class MinedRegion(NamedTuple):
    """A region that is the best match of at least one noun."""

    crop: Tensor  # (3, S, S) uint8 RGB, filled with CLIP's mean colour outside the mask
    mask: Tensor  # (S, S) bool
    nouns: tuple[str, ...]


class Mined(NamedTuple):
    """The pairs of one image."""

    regions: tuple[MinedRegion, ...]
    problem: str | None = None  # why there are none


class Miner:
    """Finds the best-matching proposal of each noun (OVSeg, sec. 3.2); no score is thresholded.

    Args:
        proposer: of the masks; its classes are not used.
        text: rows of any vocabulary in the proposer's own text space.
        regions: cuts the crops and embeds them with the original CLIP, which also embeds nouns.
        short_side: images are scaled to this, pixels.
        long_side: limit of the longer side, pixels.
        find: the nouns, or noun phrases, of a caption.
    """

    def __init__(
        self,
        *,
        proposer: Proposer,
        text: TextRows,
        regions: MaskedCrops,
        short_side: int = 640,
        long_side: int = 2560,
        find: Callable[[str], list[str]] = find_nouns,
    ) -> None:
        self.proposer, self.text, self.regions = proposer, text, regions
        self.short_side, self.long_side = short_side, long_side
        self.find = find
        self.clip = cast(CropClip, regions.clip)  # nouns need its text half
        self._rows: dict[str, Tensor] = {}

    @torch.inference_mode()
    def __call__(
        self, image: Tensor, captions: Sequence[str], *, target: Target | None = None
    ) -> Mined:
        """Returns the pairs of an image.

        Args:
            image: (3, H, W) uint8 RGB.
            captions: in English.
            target: annotated masks, for the ground-truth proposer.
        """
        nouns = list(dict.fromkeys(noun for each in captions for noun in self.find(each)))
        if not nouns:
            return Mined((), NO_NOUN)
        crops = self._crops(image, target)
        if not len(crops.pixels):
            return Mined((), NO_PROPOSAL)
        embeddings = F.normalize(self.regions.embed(crops), dim=-1)
        best = (self._noun_rows(nouns) @ embeddings.T).argmax(dim=1)
        pixels = unnormalised(self.clip, crops.pixels)
        found = {place: [] for place in best.tolist()}
        for noun, place in zip(nouns, best.tolist(), strict=True):
            found[place].append(noun)
        return Mined(
            tuple(
                MinedRegion(pixels[place], crops.masks[place], tuple(own))
                for place, own in found.items()
            )
        )

    def _crops(self, image: Tensor, target: Target | None) -> Crops:
        resized = resize_for_test(image, self.short_side, self.long_side)
        device = self.clip.pixel_mean.device
        shown = InputImage(resized.to(device), image.to(device), size_of(image), target=target)
        (proposals,) = self.proposer.propose([shown], self.text)
        return self.regions.crop(shown, proposals)

    def _noun_rows(self, nouns: Sequence[str]) -> Tensor:
        """Returns (N, D) rows of unit length; each noun is embedded once."""
        new = [noun for noun in nouns if noun not in self._rows]
        if new:
            rows = embed_words(self.clip.encode_text, new)
            self._rows |= dict(zip(new, rows, strict=True))
        return torch.stack([self._rows[noun] for noun in nouns])


def unnormalised(clip: CropClip, crops: Tensor) -> Tensor:
    """Returns normalised (N, 3, S, S) crops as uint8 RGB; bicubic overshoot is clipped."""
    return (crops * clip.pixel_std + clip.pixel_mean).round().clamp(0, 255).to(torch.uint8)
