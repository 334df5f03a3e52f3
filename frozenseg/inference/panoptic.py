"""Panoptic output: every pixel belongs to one segment, or to none."""

import torch
import torch.nn.functional as F
from torch import Tensor

from frozenseg.inference.tiled_masks import SLACK, TiledMasks, first_argmax, pick
from frozenseg.structures import PanopticMap, Segment


def panoptic_map(
    class_probs: Tensor,
    masks: TiledMasks,
    is_thing: Tensor,
    *,
    object_threshold: float = 0.0,
    overlap_threshold: float = 0.8,
) -> PanopticMap:
    """Gives each pixel to the query of the largest score times mask probability (sec. 3.2).

    Queries whose best class is void, or whose score is not above ``object_threshold``, take no
    part. A query's segment is where it wins and its mask probability is at least one half; it is
    dropped if what it wins is less than ``overlap_threshold`` of its mask. Segments of one stuff
    class are merged.

    Args:
        class_probs: (Q, K + 1), void last.
        masks: of Q queries.
        is_thing: (K,) bool.
    """
    scores, classes = class_probs.max(dim=-1)
    keep = (classes < len(is_thing)) & (scores > object_threshold)
    ids = torch.zeros(masks.tiling.size, dtype=torch.int32, device=scores.device)
    if not keep.any():
        return PanopticMap(ids, ())
    winner, shown_pixels, own = _compete(scores, masks, keep)
    won = winner.flatten().bincount(minlength=len(scores))
    shown = winner[shown_pixels].bincount(minlength=len(scores))
    drop = (won == 0) | (own == 0) | (shown == 0) | (won / own.clamp(min=1) < overlap_threshold)

    # one copy to the host for all queries
    things = F.pad(is_thing.to(classes.device), (0, 1))[classes]  # void is none
    table = torch.stack([drop.long(), classes, things.long(), shown], dim=1).tolist()
    segment_of, segments = number_segments(table, scores.tolist())
    numbers = torch.tensor(segment_of, dtype=torch.int32, device=ids.device)
    ids[shown_pixels] = numbers[winner[shown_pixels]]
    return PanopticMap(ids, tuple(segments))


def _compete(scores: Tensor, masks: TiledMasks, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns each pixel's winner, if its mask covers the pixel, and the area of each mask.

    In each tile only queries are computed that can win somewhere, or whose edge passes through it.
    The others cover the whole tile or nothing of it.

    Returns:
        (H, W) int32 queries, (H, W) bool, and (Q,) int64 pixels.
    """
    tiling, (low, high) = masks.tiling, masks.range
    surely = (scores[:, None] * low.sigmoid())[keep].amax(dim=0)
    can_win = scores[:, None] * high.sigmoid() >= (1 - SLACK) * surely
    at_edge = (low < SLACK) & (high > -SLACK)
    computed = pick((can_win | at_edge) & keep[:, None])
    own = torch.where(low >= SLACK, tiling.num_pixels.to(low.device), 0).sum(dim=1)

    winner = torch.empty(tiling.size, dtype=torch.int32, device=low.device)
    shown = torch.empty(tiling.size, dtype=torch.bool, device=low.device)
    for tile, (area, queries) in enumerate(zip(tiling, computed, strict=True)):
        probs = masks(tile, queries).sigmoid_()
        inside = torch.ge(probs, 0.5, out=torch.empty_like(probs))
        first = first_argmax(probs.mul_(scores[queries, None, None]))
        winner[area] = queries[first]
        shown[area] = inside.gather(0, first[None])[0].bool()
        own[queries] += inside.flatten(1).sum(dim=1).long() * at_edge[queries, tile]
    return winner, shown, own


def number_segments(table: list[list[int]], scores: list[float]) -> tuple[list[int], list[Segment]]:
    """Each query's segment id (0: dropped), and the segments; stuff of a class shares an id."""
    segment_of, segments, stuff = [], [], {}
    for (drop, class_id, is_thing, area), score in zip(table, scores, strict=True):
        if drop:
            segment_of.append(0)
            continue
        if class_id in stuff and not is_thing:
            number = stuff[class_id]
            before = segments[number - 1]
            segments[number - 1] = before._replace(
                area=before.area + area, score=max(before.score, score)
            )
        else:
            number = len(segments) + 1
            segments.append(Segment(number, class_id, bool(is_thing), area=area, score=score))
            if not is_thing:
                stuff[class_id] = number
        segment_of.append(number)
    return segment_of, segments
