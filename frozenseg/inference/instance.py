"""Instance output: the best (query, class) pairs as scored masks."""

import torch
from torch import Tensor

from frozenseg.inference.tiled_masks import SLACK, TiledMasks, pick
from frozenseg.structures import Instances, boxes_of


def top_instances(
    class_probs: Tensor, masks: TiledMasks, is_thing: Tensor | None, *, num_instances: int = 100
) -> Instances:
    """The ``num_instances`` best of all (query, class) pairs, best first.

    A score is the class probability times the mean mask probability inside the mask.

    Args:
        class_probs: (Q, K + 1), void last.
        masks: of Q queries.
        is_thing: (K,) bool; the pairs are ranked over all classes and stuff is removed afterwards,
            as published numbers of panoptic runs are made. None keeps every class.
    """
    num_classes = class_probs.shape[-1] - 1
    pairs = class_probs[:, :-1].flatten()
    scores, order = pairs.topk(min(num_instances, len(pairs)), sorted=True)
    queries, classes = order // num_classes, order % num_classes
    if is_thing is not None:
        keep = is_thing.to(classes.device)[classes]
        scores, queries, classes = scores[keep], queries[keep], classes[keep]
    chosen, place = queries.unique(return_inverse=True)  # a query's mask is measured once
    scores = scores * _mean_inside(masks, chosen)[place]
    best = scores.argsort(descending=True, stable=True)
    found = masks.inside(queries[best])
    return Instances(classes[best], scores[best], found, boxes_of(found))


def _mean_inside(masks: TiledMasks, queries: Tensor) -> Tensor:
    """Returns the (n,) mean mask probability of n queries inside their masks; 0 if empty."""
    total, area = torch.zeros(2, len(queries), dtype=torch.float64, device=queries.device)
    for tile, places in enumerate(pick(masks.range.high[queries] > -SLACK)):
        logits = masks(tile, queries[places])
        inside = torch.gt(logits, 0, out=torch.empty_like(logits))
        area[places] += inside.flatten(1).sum(dim=1)
        total[places] += logits.sigmoid_().mul_(inside).flatten(1).sum(dim=1)
    return (total / (area + 1e-6)).to(masks.logits.dtype)
