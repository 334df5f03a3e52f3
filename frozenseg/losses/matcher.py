"""Bipartite matching of queries and targets (DETR, sec. 3.1; Mask2Former, sec. 3.3)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frozenseg.losses.point_sampling import sample_masks, sample_points
from frozenseg.structures import Prediction, Target


class PackedTargets(NamedTuple):
    """The targets of a batch, concatenated over images."""

    class_ids: Tensor  # (T,) int64, T targets in the whole batch
    masks: Tensor  # (T, H, W) bool
    counts: tuple[int, ...]  # targets of each image
    padded_ids: Tensor  # (B, N) int64 rows of the block, N the largest count; padded with 0


class Match(NamedTuple):
    """Matched pairs of one prediction; element i of all arrays is one pair.

    Sorted by image, then by query. Host arrays; ids count within their image.
    """

    image_ids: np.ndarray  # (M,)
    query_ids: np.ndarray  # (M,)
    target_ids: np.ndarray  # (M,)


class HungarianMatcher:
    """Assigns a distinct query to each target of an image, at the least total cost.

    A table of Q queries x N targets per image holds the cost of each pair:

        cost = - class_weight * probability of the target's class
               + mask_weight  * binary cross-entropy of the masks, mean over points
               + dice_weight  * (1 - dice overlap of the masks)

    Masks are compared at ``num_points`` random points, shared by all pairs of an image. The
    Hungarian method selects min(Q, N) cells with the smallest sum, at most one per row and column.
    Unmatched queries are trained to predict void. Nothing here has a gradient.

    Args:
        class_weight, mask_weight, dice_weight: see the formula.
        num_points: points per mask.
    """

    def __init__(
        self,
        *,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        num_points: int = 12544,
    ) -> None:
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.num_points = num_points

    @torch.no_grad()
    def __call__(
        self, predictions: Sequence[Prediction], targets: PackedTargets, points: Sequence[Tensor]
    ) -> list[Match]:
        """Returns one match per prediction; all cost tables are copied to the host at once.

        Args:
            predictions: of all layers.
            targets: of the batch.
            points: (B, P, 2) for each prediction.

        Raises:
            FloatingPointError: a cost is nan or infinite; the message names the prediction.
        """
        tables = [self.costs(*pair, targets) for pair in zip(predictions, points, strict=True)]
        return assign(tables, targets.counts)

    @torch.no_grad()
    def costs(self, prediction: Prediction, points: Tensor, targets: PackedTargets) -> Tensor:
        """Returns (B, Q, N) float32 costs; columns beyond an image's own targets are undefined."""
        with torch.autocast(points.device.type, enabled=False):
            probs = prediction.class_logits.float().softmax(dim=-1)
            class_ids = take_rows(targets.class_ids, targets.padded_ids)
            wanted = class_ids.unsqueeze(1).expand(-1, probs.shape[1], -1)
            logits = sample_points(prediction.mask_logits.float(), points)
            labels = sample_masks(targets.masks, targets.padded_ids, points.unsqueeze(1))
            return (
                self.mask_weight * _mask_cost(logits, labels)
                + self.dice_weight * dice_cost(logits.sigmoid(), labels)
                - self.class_weight * probs.gather(-1, wanted)
            )


def assign(tables: Sequence[Tensor], counts: Sequence[int]) -> list[Match]:
    """Solves the (B, Q, N) cost tables of all predictions; they travel to the host in one copy.

    Args:
        tables: one per prediction, the final one last.
        counts: targets of each image; further columns of its table are ignored.

    Raises:
        FloatingPointError: a cost is nan or infinite; the message names the prediction.
    """
    costs = torch.stack(list(tables)).cpu().numpy()
    finite = np.isfinite(costs).all(axis=(1, 2, 3))
    if not finite.all():
        raise FloatingPointError(_divergence_message(int(finite.argmin()), len(tables)))
    return [_assign(table, counts) for table in costs]


def pack_targets(targets: Sequence[Target]) -> PackedTargets:
    """Concatenates the targets of a batch.

    Raises:
        ValueError: an image has unequal numbers of masks and class ids, or masks differ in size.
    """
    for image, (class_ids, masks) in enumerate(targets):
        if len(class_ids) != len(masks):
            counts = f"{len(class_ids)} class_ids but {len(masks)} masks"
            raise ValueError(f"target {image} has {counts}: give one each")
    sizes = {tuple(target.masks.shape[-2:]) for target in targets}
    if len(sizes) > 1:
        raise ValueError(
            f"target masks have sizes {sorted(sizes)}: pad all to the size of the batch"
        )
    counts = tuple(len(target.class_ids) for target in targets)
    padded_ids = np.zeros((len(counts), max(counts)), dtype=np.int64)
    for image, count in enumerate(counts):
        padded_ids[image, :count] = np.arange(count) + sum(counts[:image])
    class_ids = torch.cat([target.class_ids for target in targets])
    return PackedTargets(
        class_ids=class_ids,
        masks=torch.cat([target.masks for target in targets]).bool(),
        counts=counts,
        padded_ids=torch.from_numpy(padded_ids).to(class_ids.device),
    )


def take_rows(values: Tensor, ids: Tensor) -> Tensor:
    return values[ids] if len(values) else values.new_zeros(ids.shape)


def _mask_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the (B, Q, N) cross-entropy of (B, Q, P) and (B, N, P) rows, mean over points.

    Since BCE(x, t) = softplus(x) - x t, one matrix product computes all pairs.
    """
    num_points = logits.shape[-1]
    # softplus; this form is several times faster than F.softplus on a CPU
    as_negative = (logits.relu() - logits.abs().sigmoid().log()).mean(dim=-1, keepdim=True)
    return as_negative - logits @ labels.mT / num_points


def dice_cost(probs: Tensor, labels: Tensor) -> Tensor:
    """1 - dice overlap, smoothed by one point, of all pairs: (B, Q, N)."""
    overlap = probs @ labels.mT
    total = probs.sum(-1).unsqueeze(-1) + labels.sum(-1).unsqueeze(-2)
    return 1.0 - (2.0 * overlap + 1.0) / (total + 1.0)


def _assign(table: np.ndarray, counts: Sequence[int]) -> Match:
    from scipy.optimize import linear_sum_assignment  # half a second that inference need not wait

    pairs = [
        linear_sum_assignment(costs[:, :count]) for costs, count in zip(table, counts, strict=True)
    ]
    lengths = [len(query_ids) for query_ids, _ in pairs]
    return Match(
        image_ids=np.repeat(np.arange(len(pairs)), lengths),
        query_ids=np.concatenate([query_ids for query_ids, _ in pairs]),
        target_ids=np.concatenate([target_ids for _, target_ids in pairs]),
    )


def _divergence_message(index: int, num_predictions: int) -> str:
    name = "final prediction" if index == num_predictions - 1 else f"prediction {index}"
    return (
        f"training has diverged: the matching costs of the {name} (of {num_predictions}, "
        "counted from 0) are nan or infinite"
    )
