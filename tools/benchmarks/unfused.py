"""Post-processing as its definitions read: every mask at the size of the result, all at once.

The baseline of the benchmark and the reference of the tests. It needs memory for queries x pixels
and classes x pixels.
"""

import torch
from torch import Tensor

from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.panoptic import number_segments
from frozenseg.inference.semantic import class_maps
from frozenseg.ops.maps import Size, resize_maps
from frozenseg.pipeline.masks import image_masks, masks_at
from frozenseg.structures import Instances, PanopticMap, Proposals, Result, boxes_of


def unfused_outputs(
    settings: OutputSettings,
    proposals: Proposals,
    class_probs: Tensor,
    is_thing: Tensor,
    size: Size,
) -> Result:
    """Returns the outputs of one image, with class maps.

    Args:
        settings: which outputs, and their thresholds.
        proposals: masks of the image.
        class_probs: (Q, K + 1), void last.
        is_thing: (K,) bool.
        size: of the results, pixels.
    """
    if settings.semantic_only:
        maps = class_maps(class_probs[:, :-1], image_masks(proposals).sigmoid())
        maps = resize_maps(maps, size)
        return Result(semantic=maps.argmax(dim=0), class_maps=maps)
    logits = masks_at(proposals, size)
    probs = logits.sigmoid()
    maps = panoptic = instances = None
    if settings.semantic:
        maps = class_maps(class_probs[:, :-1], probs)
    if settings.panoptic:
        panoptic = _panoptic(settings, class_probs, probs, is_thing)
    if settings.instance:
        things = is_thing if settings.panoptic or settings.things_only else None
        instances = _instances(settings, class_probs, logits, things)
    labels = None if maps is None else maps.argmax(dim=0)
    return Result(labels, panoptic, instances, class_maps=maps)


def _panoptic(
    settings: OutputSettings, class_probs: Tensor, mask_probs: Tensor, is_thing: Tensor
) -> PanopticMap:
    scores, classes = class_probs.max(dim=-1)
    keep = (classes < len(is_thing)) & (scores > settings.object_threshold)
    scores, classes, mask_probs = scores[keep], classes[keep], mask_probs[keep]
    ids = torch.zeros(mask_probs.shape[-2:], dtype=torch.int32)
    if not len(scores):
        return PanopticMap(ids, ())
    winner = (scores[:, None, None] * mask_probs).argmax(dim=0)
    inside = mask_probs >= 0.5
    won = winner.flatten().bincount(minlength=len(scores))
    own = inside.flatten(1).sum(dim=1)
    visible = inside.gather(0, winner[None])[0]
    shown = winner[visible].bincount(minlength=len(scores))
    drop = (won == 0) | (own == 0) | (shown == 0)
    drop |= won / own.clamp(min=1) < settings.overlap_threshold
    table = torch.stack([drop.long(), classes, is_thing[classes].long(), shown], dim=1).tolist()
    segment_of, segments = number_segments(table, scores.tolist())
    ids[visible] = torch.tensor(segment_of, dtype=torch.int32)[winner[visible]]
    return PanopticMap(ids, tuple(segments))


def _instances(
    settings: OutputSettings, class_probs: Tensor, logits: Tensor, is_thing: Tensor | None
) -> Instances:
    num_classes = class_probs.shape[-1] - 1
    pairs = class_probs[:, :-1].flatten()
    scores, order = pairs.topk(min(settings.num_instances, len(pairs)), sorted=True)
    queries, classes = order // num_classes, order % num_classes
    if is_thing is not None:
        keep = is_thing[classes]
        scores, queries, classes = scores[keep], queries[keep], classes[keep]
    chosen, place = queries.unique(return_inverse=True)
    masks, logits = logits[chosen] > 0, logits[chosen]
    area = masks.flatten(1).sum(dim=1)
    inside = (logits.sigmoid() * masks).flatten(1).sum(dim=1) / (area + 1e-6)
    scores = scores * inside[place]
    best = scores.argsort(descending=True, stable=True)
    place = place[best]
    return Instances(classes[best], scores[best], masks[place], boxes_of(masks)[place])
