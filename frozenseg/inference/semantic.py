"""Semantic output: a score for every class at every pixel, and the class of the best score."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from frozenseg.inference.tiled_masks import SLACK, TiledMasks, first_argmax, pick
from frozenseg.ops.tiles import Resize


def class_maps(class_weights: Tensor, mask_probs: Tensor) -> Tensor:
    """Sums (Q, H, W) mask probabilities by their (Q, K) class weights: (K, H, W)."""
    return torch.einsum("qk,qhw->khw", class_weights, mask_probs)


class WeightedMasks(NamedTuple):
    """Masks, and what each adds to the score of each class."""

    class_weights: Tensor  # (Q, K), not negative
    masks: TiledMasks


class ClassMaps:
    """(K, H, W) scores, made tile by tile.

    Args:
        layers: masks whose weighted probabilities add up to the scores, all in the same tiles.
        resize: from the size at which scores are added up to that of the result; None: the same.
    """

    def __init__(self, layers: Sequence[WeightedMasks], resize: Resize | None = None) -> None:
        self.layers, self.resize = layers, resize
        self.tiling = (layers[0].masks if resize is None else resize).tiling

    @classmethod
    def of(cls, class_probs: Tensor, masks: TiledMasks) -> "ClassMaps":
        """Returns the maps of masks by their (Q, K + 1) classes; void, the last, has none."""
        return cls([WeightedMasks(class_probs[:, :-1], masks)])

    def labels(self) -> Tensor:
        """Returns the (H, W) int64 class of the best score at each pixel, the first of equal ones.

        In each tile, only classes that can be the best somewhere get scores.
        """
        labels = self._new(self.tiling.size, torch.int64)
        for tile, (area, classes) in enumerate(zip(self.tiling, self._rivals(), strict=True)):
            if len(classes) == 1:
                labels[area] = classes
            else:
                labels[area] = classes[first_argmax(self._scores(tile, classes))]
        return labels

    def labels_and_maps(self) -> tuple[Tensor, Tensor]:
        """Returns the labels and the (K, H, W) scores of all classes."""
        weights, size = self.layers[0].class_weights, self.tiling.size
        labels = self._new(size, torch.int64)
        maps = self._new((weights.shape[1], *size), weights.dtype)
        for tile, (rows, columns) in enumerate(self.tiling):
            scores = self._scores(tile, slice(None))
            labels[rows, columns], maps[:, rows, columns] = first_argmax(scores), scores
        return labels, maps

    def _scores(self, tile: int, classes: Tensor | slice) -> Tensor:
        scores = reduce(
            torch.add,
            (
                class_maps(weights[:, classes], masks(tile).sigmoid_())
                for weights, masks in self.layers
            ),
        )
        return scores if self.resize is None else self.resize(scores, tile)

    def _rivals(self) -> list[Tensor]:
        """Returns the classes of each tile that can be the best at one of its pixels.

        Each is compared with one class that scores well in the tile: by how much can it lead?
        """
        weights = torch.cat([layer.class_weights for layer in self.layers])
        bounds = [layer.masks.range for layer in self.layers]
        low, high = (torch.cat(each).sigmoid() for each in zip(*bounds, strict=True))
        good = (weights.T @ (low + high)).argmax(dim=0)  # (T,)
        can_win = torch.empty(weights.shape[1], len(good), dtype=torch.bool, device=good.device)
        for best in good.unique():
            tiles = (good == best).nonzero()[:, 0]
            lowest, highest, other = low[:, tiles], high[:, tiles], weights[:, best, None]
            more, less = (weights - other).clamp(min=0), (weights - other).clamp(max=0)
            lead = (1 + SLACK) * (more.T @ highest) + (1 - SLACK) * (less.T @ lowest)
            can_win[:, tiles] = lead >= 0
        return pick(can_win)

    def _new(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.layers[0].class_weights.device)
