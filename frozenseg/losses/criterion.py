"""The training loss: match, then compare classes and masks at every layer (Mask2Former, 3.3)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from frozenseg.losses.matcher import HungarianMatcher, Match, PackedTargets, pack_targets
from frozenseg.losses.point_sampling import (
    Draw,
    draw_uniform,
    sample_masks,
    sample_points,
    uncertain_points,
)
from frozenseg.structures import Prediction, Target


class _Points(NamedTuple):
    """The random points of one prediction."""

    shared: Tensor  # (B, P, 2), for matching
    candidates: Tensor  # (M, P', 2), for the mask losses: the most uncertain are used
    others: Tensor  # (M, R, 2), for the mask losses: all are used


class MatchedTargets(NamedTuple):
    """The pairs of the final prediction's queries and the targets of a batch."""

    query_rows: Tensor  # (M,) rows of the (B * Q) queries
    class_ids: Tensor  # (M,) int64, of the targets


class MatchedLosses(NamedTuple):
    """The losses of a batch, and the pairs that they were computed with."""

    losses: dict[str, Tensor]
    matches: MatchedTargets


class Criterion:
    """Weighted losses of all predictions of a batch, each matched with the targets separately.

    Three terms per prediction: cross-entropy over classes and void, and binary cross-entropy and
    dice of the matched masks at random points. Mask terms are summed over matches and divided by
    the average number of targets per process (at least 1).

    Args:
        matcher: assigns queries to targets.
        class_weight, mask_weight, dice_weight: of the three terms.
        no_object_weight: of void in the cross-entropy.
        num_points: points per matched mask.
        oversample_ratio: candidates per point, of which the most uncertain are used.
        importance_ratio: share of the points that are the most uncertain candidates; the others
            are random.
        deep_supervision: False uses the final prediction only.
        draw: source of random points.
    """

    def __init__(
        self,
        *,
        matcher: HungarianMatcher,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_ratio: float = 0.75,
        deep_supervision: bool = True,
        draw: Draw = draw_uniform,
    ) -> None:
        self.matcher = matcher
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.no_object_weight = no_object_weight
        self.num_candidates = int(num_points * oversample_ratio)
        self.num_uncertain = int(num_points * importance_ratio)
        self.num_others = num_points - self.num_uncertain
        self.deep_supervision = deep_supervision
        self.draw = draw

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Sequence[Target],
        *,
        num_targets: float | None = None,
    ) -> dict[str, Tensor]:
        """Returns weighted losses by Detectron2's names; training minimises their sum.

        ``loss_ce``, ``loss_mask`` and ``loss_dice`` belong to the final prediction, ``loss_ce_0``,
        ... to the others in order.

        Args:
            predictions: index 0 from the learned queries, the last one final.
            targets: one per image; all masks have one size, at any scale to the mask logits.
            num_targets: this process's number of targets in the divisor of the mask terms, by
                default that of ``targets``; with accumulation, the mean over the parts.

        Raises:
            ValueError: targets disagree with each other or with the batch.
            FloatingPointError: the predictions have diverged.
        """
        return self.matched(predictions, targets, num_targets=num_targets).losses

    def matched(
        self,
        predictions: Sequence[Prediction],
        targets: Sequence[Target],
        *,
        num_targets: float | None = None,
    ) -> MatchedLosses:
        """Like calling it, and returns the pairs of the final prediction, too."""
        supervised = predictions if self.deep_supervision else predictions[-1:]
        packed = packed_for(predictions, targets)
        device = predictions[-1].mask_logits.device
        with torch.autocast(device.type, enabled=False):
            points = [self._draw_points(prediction, packed) for prediction in supervised]
            # the final prediction draws first: reference values depend on this order
            points = points[1:] + points[:1]
            pairs = self._match(supervised, packed, [drawn.shared for drawn in points])
            count = len(packed.class_ids) if num_targets is None else num_targets
            divisor = average_over_processes(count, device)
            losses = weighted_losses(
                self,
                supervised,
                packed,
                pairs,
                lambda layer: self._mask_losses(
                    supervised[layer], packed, pairs[layer], points[layer]
                ),
                divisor=divisor,
            )
            query_rows, target_rows = pairs[-1]
            return MatchedLosses(losses, MatchedTargets(query_rows, packed.class_ids[target_rows]))

    def _draw_points(self, prediction: Prediction, targets: PackedTargets) -> _Points:
        num_images, num_queries = prediction.class_logits.shape[:2]
        num_matches = sum(min(count, num_queries) for count in targets.counts)
        device = prediction.mask_logits.device
        return _Points(
            shared=self.draw((num_images, self.matcher.num_points, 2), device),
            candidates=self.draw((num_matches, self.num_candidates, 2), device),
            others=self.draw((num_matches, self.num_others, 2), device),
        )

    def _match(
        self, predictions: Sequence[Prediction], targets: PackedTargets, points: Sequence[Tensor]
    ) -> Tensor:
        """Returns (layers, 2, M) rows of the (B * Q) queries and of the packed targets."""
        matches = self.matcher(predictions, targets, points)
        return matched_rows(matches, predictions[-1].class_logits, targets.counts)

    def _mask_losses(
        self, prediction: Prediction, targets: PackedTargets, pairs: Tensor, drawn: _Points
    ) -> tuple[Tensor, Tensor]:
        """Returns cross-entropy and dice, each summed over the matches."""
        query_rows, target_rows = pairs
        matched = prediction.mask_logits.flatten(0, 1).index_select(0, query_rows).float()
        points = uncertain_points(
            matched, drawn.candidates, drawn.others, num_uncertain=self.num_uncertain
        )
        labels = sample_masks(targets.masks, target_rows, points)
        logits = sample_points(matched.unsqueeze(1), points).squeeze(1)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return cross_entropy.mean(dim=1).sum(), dice_loss(logits.sigmoid(), labels).sum()


class LossWeights(Protocol):
    """Factors of the loss terms."""

    class_weight: float
    mask_weight: float
    dice_weight: float
    no_object_weight: float  # of void among the classes


def packed_for(predictions: Sequence[Prediction], targets: Sequence[Target]) -> PackedTargets:
    """Packs the targets of a batch.

    Raises:
        ValueError: targets disagree with each other or with the batch.
    """
    num_images = len(predictions[-1].class_logits)
    if len(targets) != num_images:
        raise ValueError(f"{num_images} images but {len(targets)} targets: give one each")
    return pack_targets(targets)


def weighted_losses(
    weights: LossWeights,
    predictions: Sequence[Prediction],
    targets: PackedTargets,
    pairs: Tensor,
    mask_losses: Callable[[int], tuple[Tensor, Tensor]],
    *,
    divisor: float | Tensor,
) -> dict[str, Tensor]:
    """Returns the weighted terms of all predictions under Detectron2's names.

    Args:
        weights: factors of the terms.
        predictions: the final one last; its terms have no number.
        targets: the batch's targets.
        pairs: (layers, 2, M) rows of the (B * Q) queries and of the packed targets.
        mask_losses: of a prediction's index: the mask and the dice term, summed over matches.
        divisor: of the mask terms.
    """
    losses: dict[str, Tensor] = {}
    for layer, prediction in enumerate(predictions):
        suffix = f"_{layer}" if layer < len(predictions) - 1 else ""
        mask, dice = mask_losses(layer)
        classes = class_loss(
            prediction, targets, pairs[layer], no_object_weight=weights.no_object_weight
        )
        losses[f"loss_ce{suffix}"] = weights.class_weight * classes
        losses[f"loss_mask{suffix}"] = weights.mask_weight * mask / divisor
        losses[f"loss_dice{suffix}"] = weights.dice_weight * dice / divisor
    return losses


def class_loss(
    prediction: Prediction, targets: PackedTargets, pairs: Tensor, *, no_object_weight: float
) -> Tensor:
    """Weighted mean cross-entropy of all queries; unmatched ones should say void.

    Args:
        prediction: of one layer.
        targets: the batch's targets.
        pairs: (2, M) rows of the (B * Q) queries and of the packed targets.
        no_object_weight: weight of void; classes weigh 1.
    """
    query_rows, target_rows = pairs
    logits = prediction.class_logits.float().flatten(0, 1)
    void = logits.shape[-1] - 1
    wanted = torch.full_like(logits[:, 0], void, dtype=torch.int64)
    wanted[query_rows] = targets.class_ids[target_rows]
    weights = torch.ones_like(logits[0])
    weights[void] = no_object_weight
    return F.cross_entropy(logits, wanted, weight=weights)


def dice_loss(probs: Tensor, labels: Tensor) -> Tensor:
    """(M,): 1 - dice overlap of (M, P) rows, smoothed by one point."""
    overlap = (probs * labels).sum(-1)
    return 1.0 - (2.0 * overlap + 1.0) / (probs.sum(-1) + labels.sum(-1) + 1.0)


def matched_rows(matches: Sequence[Match], class_logits: Tensor, counts: Sequence[int]) -> Tensor:
    """(layers, 2, M) rows of the (B * Q) queries and of the packed targets, copied at once.

    Args:
        matches: one per layer, all with the same number of pairs.
        class_logits: (B, Q, K + 1) of any layer, whose device the result is on.
        counts: targets of each image.
    """
    num_queries = class_logits.shape[1]
    rows = np.stack([_flat_rows(match, num_queries, counts) for match in matches])
    return torch.from_numpy(rows).to(class_logits.device)


def _flat_rows(match: Match, num_queries: int, counts: Sequence[int]) -> np.ndarray:
    starts = np.cumsum([0, *counts[:-1]])
    return np.stack(
        [
            match.image_ids * num_queries + match.query_ids,
            starts[match.image_ids] + match.target_ids,
        ]
    )


def average_over_processes(num_targets: float, device: torch.device) -> float | Tensor:
    """The divisor of the mask terms, at least 1."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return max(float(num_targets), 1.0)
    total = torch.tensor(float(num_targets), device=device)
    distributed.all_reduce(total)
    return (total / distributed.get_world_size()).clamp(min=1.0)
