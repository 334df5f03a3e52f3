"""Diagnosis of the score: how it changes with true masks or with true classes.

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
from torch import Tensor

from frozenseg.data.mapper import target_of
from frozenseg.inference.predictor import Predictor
from frozenseg.inference.semantic import ClassMaps
from frozenseg.inference.tiled_masks import TiledMasks, whole_masks
from frozenseg.metrics import Classes, PanopticEvaluator, SemanticEvaluator
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.masks import masks_at
from frozenseg.pipeline.proposers.ground_truth import assign_queries, with_classes
from frozenseg.structures import InputImage, PanopticMap, Proposals, Sample, Target

AS_PREDICTED, TRUE_CLASSES, TRUE_MASKS, BOTH = "as predicted", "true classes", "true masks", "both"
VARIANTS = (AS_PREDICTED, TRUE_CLASSES, TRUE_MASKS, BOTH)
SHOWN = tuple(
    f"{task}/{group}{measure}"
    for task, measure in (("panoptic", "PQ"), ("semantic", "mIoU"))
    for group in ("", "seen/", "unseen/")
)


CERTAIN_LOGIT = 100.0  # its sigmoid is 1 in float32
Scores = dict[str, dict[str, float]]  # by variant, then by measure, percent


class Masks(NamedTuple):
    """Masks of one image with their classes, at the size of the annotation."""

    class_probs: Tensor  # (Q, K + 1), void last
    masks: TiledMasks


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
        """Counts one sample, for each annotation of which the predictor computes an output.

        Args:
            image: the sample's image, (3, H, W) at the size that the model sees.
            sample: with its annotations.
        """
        predictor = self.predictor
        shown = InputImage(image.to(predictor.seen.device), sample.image, size_of(sample.image))
        shown = predictor.with_sam_masks(shown)
        (proposals,) = predictor.propose([shown])
        found = predictor.segment(shown, proposals)
        if found.panoptic is not None and sample.panoptic is not None:
            self.panoptic[AS_PREDICTED].process(found.panoptic, sample.panoptic)
            target = shown_segments(sample.panoptic)
            for variant, masks in with_truth(predictor, shown, proposals, target):
                self.panoptic[variant].process(self._panoptic(masks), sample.panoptic)
        if found.semantic is not None and sample.semantic is not None:
            self.semantic[AS_PREDICTED].process(found.semantic, sample.semantic)
            regions = class_regions(sample.semantic, self.ignore_label)
            for variant, masks in with_truth(predictor, shown, proposals, regions, shared=True):
                self.semantic[variant].process(ClassMaps.of(*masks).labels(), sample.semantic)

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
        return self.predictor.settings.panoptic_of(*masks, self.predictor.is_thing)


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
    predictor: Predictor,
    image: InputImage,
    proposals: Proposals,
    target: Target,
    *,
    shared: bool = False,
) -> list[tuple[str, Masks]]:
    """Replaces parts of an image's proposals by the truth; empty without a segment.

    Args:
        predictor: the model.
        image: the image.
        proposals: the model's, for the image.
        target: the annotation, (N, H, W) masks.
        shared: several queries may make up a segment.
    """
    if not len(target.class_ids):
        return []
    logits = masks_at(proposals, size_of(target.masks))
    masks, class_ids = target.masks.to(logits.device), target.class_ids.to(logits.device)
    segments, queries = pairs = assign_queries(logits > 0, masks, shared=shared)
    truth = F.one_hot(class_ids, predictor.text.num_classes + 1).to(logits)
    oracle = with_classes(Target(class_ids, masks), proposals, pairs)
    true_masks = whole_masks((masks.to(logits) * 2 - 1) * CERTAIN_LOGIT)
    return [
        (TRUE_CLASSES, Masks(truth[segments], whole_masks(logits[queries]))),
        (TRUE_MASKS, Masks(predictor.class_probs(image, oracle).general, true_masks)),
        (BOTH, Masks(truth, true_masks)),
    ]
