"""Instance output: the best (query, class) pairs as scored masks."""

from torch import Tensor

from frozenseg.structures import Instances, boxes_of


def top_instances(
    class_probs: Tensor, mask_logits: Tensor, is_thing: Tensor | None, *, num_instances: int = 100
) -> Instances:
    """The ``num_instances`` best of all (query, class) pairs, best first.

    A score is the class probability times the mean mask probability inside the mask.

    Args:
        class_probs: (Q, K + 1), void last.
        mask_logits: (Q, H, W).
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
    masks, logits = mask_logits[chosen] > 0, mask_logits[chosen]
    area = masks.flatten(1).sum(dim=1)
    inside = (logits.sigmoid() * masks).flatten(1).sum(dim=1) / (area + 1e-6)
    scores = scores * inside[place]
    best = scores.argsort(descending=True, stable=True)
    place = place[best]
    return Instances(classes[best], scores[best], masks[place], boxes_of(masks)[place])
