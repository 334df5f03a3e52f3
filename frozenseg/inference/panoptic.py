"""Panoptic output: every pixel belongs to one segment, or to none."""

import torch
from torch import Tensor

from frozenseg.structures import PanopticMap, Segment


def panoptic_map(
    class_probs: Tensor,
    mask_probs: Tensor,
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
        mask_probs: (Q, H, W).
        is_thing: (K,) bool.
    """
    scores, classes = class_probs.max(dim=-1)
    keep = (classes < len(is_thing)) & (scores > object_threshold)
    scores, classes, mask_probs = scores[keep], classes[keep], mask_probs[keep]
    ids = torch.zeros(mask_probs.shape[-2:], dtype=torch.int32, device=mask_probs.device)
    if not len(scores):
        return PanopticMap(ids, ())
    winner = (scores[:, None, None] * mask_probs).argmax(dim=0)
    inside = mask_probs >= 0.5
    won = winner.flatten().bincount(minlength=len(scores))
    own = inside.flatten(1).sum(dim=1)
    shown_pixels = inside.gather(0, winner[None])[0]
    shown = winner[shown_pixels].bincount(minlength=len(scores))
    drop = (won == 0) | (own == 0) | (shown == 0) | (won / own.clamp(min=1) < overlap_threshold)

    # one copy to the host for all queries
    things = is_thing.to(classes.device)[classes]
    table = torch.stack([drop.long(), classes, things.long(), shown], dim=1).tolist()
    segment_of, segments = _number_segments(table, scores.tolist())
    numbers = torch.tensor(segment_of, dtype=torch.int32, device=ids.device)
    ids[shown_pixels] = numbers[winner[shown_pixels]]
    return PanopticMap(ids, tuple(segments))


def _number_segments(
    table: list[list[int]], scores: list[float]
) -> tuple[list[int], list[Segment]]:
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
