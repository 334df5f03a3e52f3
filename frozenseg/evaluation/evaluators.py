"""The evaluators of a data set: the paper's measures, and their inputs from each image."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from frozenseg.data.specs import Scoring, Task
from frozenseg.inference.outputs import PROPOSALS
from frozenseg.inference.predictor import SAM_PROPOSALS
from frozenseg.metrics import (
    CityscapesInstanceEvaluator,
    CityscapesSemanticEvaluator,
    Classes,
    Evaluator,
    InstanceEvaluator,
    LvisEvaluator,
    PanopticEvaluator,
    RecallEvaluator,
    SemanticEvaluator,
)
from frozenseg.structures import Instances, Result, Sample

NOT_REQUESTED = "an evaluator needs an output or annotation that was not requested"


class EvaluatorSpec(NamedTuple):
    """One evaluator of a data set.

    Args:
        name: of its tables and of its state in files.
        make: returns a new evaluator.
        feed: passes the result and the annotation of one image to the evaluator.
    """

    name: str
    make: Callable[[], Evaluator]
    feed: Callable[[Any, Result, Sample], None]


@dataclass(frozen=True, kw_only=True)
class ScoringRules:
    """The measures of a data set.

    Args:
        tasks: the tasks that are scored.
        names: (K,) test classes.
        is_thing: (K,) True for things.
        seen: (K,) True for classes of the training vocabulary.
        scoring: whose protocol scores instances; Cityscapes also scores label maps its own way.
        ignore_label: the annotated label of pixels that are not scored.
        frequency: (K,) "r", "c" or "f" of each LVIS class; None for other data sets.
        recall: also measure the recall of mask proposals (Table 8).
    """

    tasks: Collection[Task]
    names: Sequence[str]
    is_thing: Sequence[bool]
    seen: Sequence[bool]
    scoring: Scoring = "coco"
    ignore_label: int = 255
    frequency: Sequence[str] | None = None
    recall: bool = False


def evaluators_for(rules: ScoringRules) -> list[EvaluatorSpec]:
    """Returns the evaluators of a data set; each also reports seen and unseen classes."""
    classes = Classes(len(rules.names), is_thing=rules.is_thing, seen=rules.seen, names=rules.names)
    by_pixel = partial(SemanticEvaluator, classes, ignore_label=rules.ignore_label)
    specs: list[EvaluatorSpec] = []
    if "panoptic" in rules.tasks:
        specs.append(EvaluatorSpec("panoptic", partial(PanopticEvaluator, classes), _panoptic))
    if "semantic" in rules.tasks:
        specs.append(EvaluatorSpec("semantic", by_pixel, _semantic))
        if rules.scoring == "cityscapes":
            make = partial(CityscapesSemanticEvaluator, classes)
            specs.append(EvaluatorSpec("cityscapes_semantic", make, _cityscapes_semantic))
    if "instance" in rules.tasks:
        specs.append(_instance_evaluator(rules, classes))
    if rules.recall:
        make = partial(RecallEvaluator, classes, ignore_label=rules.ignore_label)
        specs.append(EvaluatorSpec("recall", make, _recall))
    return specs


def things_among(instances: Instances, is_thing: Tensor) -> Instances:
    """Drops masks of stuff, which the model also scores if it makes no panoptic output.

    Args:
        instances: scored masks.
        is_thing: (K,) bool.
    """
    keep = is_thing.to(instances.class_ids.device)[instances.class_ids]
    return Instances(*(field[keep] for field in instances))


def _instance_evaluator(rules: ScoringRules, classes: Classes) -> EvaluatorSpec:
    if rules.scoring == "lvis":
        assert rules.frequency is not None, "LVIS classes have a frequency"
        make = partial(LvisEvaluator, classes, frequency=rules.frequency)
        return EvaluatorSpec("lvis", make, _lvis)
    is_thing = torch.tensor(rules.is_thing)
    if rules.scoring == "cityscapes":
        make = partial(CityscapesInstanceEvaluator, classes)
        feed = partial(_cityscapes_instances, is_thing=is_thing)
        return EvaluatorSpec("cityscapes_instance", make, feed)
    feed = partial(_instances, is_thing=is_thing)
    return EvaluatorSpec("instance", partial(InstanceEvaluator, classes), feed)


def _panoptic(evaluator: PanopticEvaluator, result: Result, sample: Sample) -> None:
    assert result.panoptic is not None and sample.panoptic is not None, NOT_REQUESTED
    evaluator.process(result.panoptic, sample.panoptic)


def _semantic(evaluator: SemanticEvaluator, result: Result, sample: Sample) -> None:
    assert result.semantic is not None and sample.semantic is not None, NOT_REQUESTED
    evaluator.process(result.semantic, sample.semantic)


def _cityscapes_semantic(
    evaluator: CityscapesSemanticEvaluator, result: Result, sample: Sample
) -> None:
    assert result.semantic is not None and sample.semantic is not None, NOT_REQUESTED
    assert sample.panoptic is not None, NOT_REQUESTED
    evaluator.process(result.semantic, sample.semantic, sample.panoptic)


def _instances(
    evaluator: InstanceEvaluator, result: Result, sample: Sample, *, is_thing: Tensor
) -> None:
    assert result.instances is not None, NOT_REQUESTED
    things = things_among(result.instances, is_thing)
    if sample.instances is not None:
        evaluator.process_annotations(things, sample.instances)
    else:
        assert sample.panoptic is not None, NOT_REQUESTED
        evaluator.process(things, sample.panoptic)


def _cityscapes_instances(
    evaluator: CityscapesInstanceEvaluator, result: Result, sample: Sample, *, is_thing: Tensor
) -> None:
    assert result.instances is not None and sample.instance_ids is not None, NOT_REQUESTED
    things = things_among(result.instances, is_thing)
    evaluator.process_instance_ids(things, sample.instance_ids)


def _lvis(evaluator: LvisEvaluator, result: Result, sample: Sample) -> None:
    assert result.instances is not None and sample.instances is not None, NOT_REQUESTED
    assert sample.federated is not None, "an LVIS image lists its absent classes"
    evaluator.process(
        result.instances,
        sample.instances,
        negative_class_ids=sample.federated.absent,
        not_exhaustive_class_ids=sample.federated.incomplete,
    )


def _recall(evaluator: RecallEvaluator, result: Result, sample: Sample) -> None:
    """SAM masks, if the model uses them, count as proposals in addition to the queries' masks."""
    assert sample.semantic is not None, NOT_REQUESTED
    masks = [result.extras[kind] for kind in (PROPOSALS, SAM_PROPOSALS) if kind in result.extras]
    evaluator.process(torch.cat(masks), sample.semantic)
