"""Where the score is lost: what the model would reach with true masks, or with true classes.

One part of the model's answer is replaced by the truth at a time:

- true classes: the queries whose masks fit annotated segments keep their masks and get the
  segments' classes; the other queries go;
- true masks: every annotated segment is the mask, in the class that the model gives it: the
  decoder by the query that fits it best, CLIP by what is under the mask (eq. 3);
- both: what the measures give a perfect answer.

If true classes help more, classification fails; if true masks help more, mask proposals do.
Segments of the panoptic annotation are replaced for PQ, the pixels of each class for mIoU.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from frozenseg.data.mapper import target_of
from frozenseg.inference.panoptic import panoptic_map
from frozenseg.inference.predictor import Predictor
from frozenseg.inference.semantic import class_maps
from frozenseg.metrics import Classes, PanopticEvaluator, SemanticEvaluator
from frozenseg.modeling.frozenseg import Output
from frozenseg.ops.maps import resize_maps
from frozenseg.structures import PanopticMap, Sample, Target

AS_IT_IS, TRUE_CLASSES, TRUE_MASKS, BOTH = "as it is", "true classes", "true masks", "both"
VARIANTS = (AS_IT_IS, TRUE_CLASSES, TRUE_MASKS, BOTH)
SHOWN = tuple(
    f"{task}/{group}{measure}"
    for task, measure in (("panoptic", "PQ"), ("semantic", "mIoU"))
    for group in ("", "seen/", "unseen/")
)

_SURE = 20.0  # logit of a mask that is known
_GRID_PX = 640  # masks are compared on every n-th pixel of larger images
_LEAST_GAIN = 1e-6  # of IoU, for a further query

Scores = dict[str, dict[str, float]]  # by variant, then by measure, percent


class Masks(NamedTuple):
    """What an image's results are combined from, at the size of the annotation."""

    class_probs: Tensor  # (Q, K + 1), void last
    mask_probs: Tensor  # (Q, H, W)


class Diagnosis:
    """Panoptic and semantic quality of every variant, over images.

    Args:
        names: of the classes that the predictor tells apart.
    """

    def __init__(
        self, predictor: Predictor, *, names: Sequence[str], ignore_label: int = 255
    ) -> None:
        self.predictor, self.ignore_label = predictor, ignore_label
        is_thing, seen = predictor.is_thing.tolist(), predictor.seen.tolist()
        classes = Classes(len(names), is_thing=is_thing, seen=seen, names=names)
        self.panoptic = {variant: PanopticEvaluator(classes) for variant in VARIANTS}
        self.semantic = {
            variant: SemanticEvaluator(classes, ignore_label=ignore_label) for variant in VARIANTS
        }

    @torch.inference_mode()
    def add(self, image: Tensor, sample: Sample) -> None:
        """Counts one sample, by those of its annotations of which the predictor makes results.

        Args:
            image: the sample's, (3, H, W) as the model shall see it.
        """
        predictor, size = self.predictor, (sample.image.shape[-2], sample.image.shape[-1])
        output = predictor.model([image], predictor.classifier)
        class_probs = predictor.class_probs(output)
        sam_masks = predictor.sam_masks([sample.image])
        found = predictor.result(
            output, class_probs, 0, size, None if sam_masks is None else sam_masks[0]
        )
        if found.panoptic is not None and sample.panoptic is not None:
            self.panoptic[AS_IT_IS].process(found.panoptic, sample.panoptic)
            for variant, masks in with_truth(predictor, output, shown_segments(sample.panoptic)):
                self.panoptic[variant].process(self._panoptic(masks), sample.panoptic)
        if found.semantic is not None and sample.semantic is not None:
            self.semantic[AS_IT_IS].process(found.semantic.argmax(dim=0), sample.semantic)
            regions = class_regions(sample.semantic, self.ignore_label)
            for variant, masks in with_truth(predictor, output, regions, shared=True):
                self.semantic[variant].process(class_maps(*masks).argmax(dim=0), sample.semantic)

    def scores(self) -> Scores:
        """The measures of ``SHOWN`` for which there is an annotation."""
        found = {
            variant: self.panoptic[variant].evaluate() | self.semantic[variant].evaluate()
            for variant in VARIANTS
        }
        defined = [name for name in SHOWN if not math.isnan(found[BOTH].get(name, math.nan))]
        return {
            variant: {name: values[name] for name in defined} for variant, values in found.items()
        }

    def _panoptic(self, masks: Masks) -> PanopticMap:
        thresholds = self.predictor.postprocess
        return panoptic_map(
            masks.class_probs,
            masks.mask_probs,
            self.predictor.is_thing,
            object_threshold=thresholds.object_threshold,
            overlap_threshold=thresholds.overlap_threshold,
        )


def shown_segments(panoptic: PanopticMap) -> Target:
    """The segments that are no crowd and have pixels."""
    target = target_of(panoptic)
    shown = target.masks.flatten(1).any(dim=1)
    return Target(target.class_ids[shown], target.masks[shown])


def class_regions(semantic: Tensor, ignore_label: int) -> Target:
    """All pixels of each class of an (H, W) label map."""
    class_ids = semantic.unique()
    class_ids = class_ids[class_ids != ignore_label]
    return Target(class_ids, semantic == class_ids[:, None, None])


def with_truth(
    predictor: Predictor, output: Output, target: Target, *, shared: bool = False
) -> list[tuple[str, Masks]]:
    """The first image's masks with the truth in place of their parts; none without a segment.

    Args:
        shared: several queries may make up a segment.
    """
    if not len(target.class_ids):
        return []
    num_classes = predictor.classifier.num_classes
    logits = _at_size(output, (target.masks.shape[-2], target.masks.shape[-1]))
    masks, class_ids = target.masks.to(logits.device), target.class_ids.to(logits.device)
    segments, queries = assign_queries(logits > 0, masks, shared=shared)
    truth = F.one_hot(class_ids, num_classes + 1).to(logits)
    true_classes = Masks(truth[segments], logits[queries].sigmoid())
    given = _classes_of_masks(predictor, output, masks, segments, queries)
    true_masks = masks.to(logits)
    return [
        (TRUE_CLASSES, true_classes),
        (TRUE_MASKS, Masks(given, true_masks)),
        (BOTH, Masks(truth, true_masks)),
    ]


def assign_queries(found: Tensor, wanted: Tensor, *, shared: bool = False) -> tuple[Tensor, Tensor]:
    """Which queries make up which segments: those that raise the sum of IoU most.

    Each segment gets one query at most (Hungarian assignment); where they may be ``shared``, this
    is done again with what is still uncovered until no IoU is raised. A query has one segment, on
    which more than half of its mask lies.

    Args:
        found: (Q, H, W) bool, the queries' masks.
        wanted: (N, H, W) bool, the segments.

    Returns:
        Segments and their queries, (M,) each; a segment's first query comes first.
    """
    step = max(1, max(wanted.shape[-2:]) // _GRID_PX)
    offered = found[:, ::step, ::step].flatten(1).float()
    inside = wanted[:, ::step, ::step].flatten(1).float()
    outside = 1 - inside
    allowed = inside @ offered.T > offered.sum(dim=1) / 2
    common, union = inside.new_zeros(len(inside), 1), inside.sum(dim=1, keepdim=True)
    pairs: list[tuple[int, int]] = []
    while True:
        more, spilled = inside @ offered.T, outside @ offered.T
        gain = (common + more) / (union + spilled).clamp(min=1) - common / union.clamp(min=1)
        gain = torch.where(allowed, gain, 0)
        rows, columns = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
        chosen = [
            (row, column)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if gain[row, column] > _LEAST_GAIN
        ]
        pairs += chosen
        if not (chosen and shared):
            break
        for row, column in chosen:  # what the query covers is no longer to be won
            common[row] += more[row, column]
            union[row] += spilled[row, column]
            inside[row] *= 1 - offered[column]
            outside[row] *= 1 - offered[column]
            allowed[:, column] = False
    segments, queries = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.to(found.device)
    return segments, queries


def _classes_of_masks(
    predictor: Predictor, output: Output, masks: Tensor, segments: Tensor, queries: Tensor
) -> Tensor:
    """(N, K + 1) probabilities of true masks: the decoder's by query, CLIP's by mask (eq. 3).

    The decoder has no say on a segment without a query, and void none at all.
    """
    class_logits = output.predictions[-1].class_logits[0]
    in_vocab = class_logits.new_zeros(len(masks), class_logits.shape[-1])
    in_vocab[segments.flip(0)] = class_logits[queries.flip(0)]  # the first one last: it stays
    in_vocab[:, -1] = -torch.inf
    height, width = output.image_sizes[0]
    padded = masks.new_zeros((len(masks), *output.padded_size), dtype=class_logits.dtype)
    padded[:, :height, :width] = resize_maps(masks.to(padded), (height, width))
    return predictor.classify(in_vocab[None], (padded[None] - 0.5) * _SURE, output.dense)[0]


def _at_size(output: Output, size: tuple[int, int]) -> Tensor:
    """(Q, H, W) mask logits of the first image at the size of its annotation."""
    height, width = output.image_sizes[0]
    logits = resize_maps(output.predictions[-1].mask_logits[0].float(), output.padded_size)
    return resize_maps(logits[:, :height, :width], size)
