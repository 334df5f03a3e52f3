"""What each data set is scored by: the paper's measures, and what they are fed of every image."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.builders.vocabularies import build_known_vocabulary, build_test_vocabulary
from frozenseg.data.catalog import SHAPES
from frozenseg.data.registry import dataset_spec
from frozenseg.data.specs import Scoring, Task
from frozenseg.evaluation.loop import EvaluatorSpec
from frozenseg.inference.outputs import PROPOSALS
from frozenseg.inference.predictor import SAM_PROPOSALS
from frozenseg.metrics import (
    CityscapesInstanceEvaluator,
    CityscapesSemanticEvaluator,
    InstanceEvaluator,
    LvisEvaluator,
    PanopticEvaluator,
    RecallEvaluator,
    SemanticEvaluator,
)
from frozenseg.structures import Instances, Result, Sample
from frozenseg.vocabulary.class_tables import class_table

ALL_TASKS: tuple[Task, ...] = ("panoptic", "semantic", "instance")
UNASKED = "a spec of this task was built without asking model and data set for it"


def evaluated_tasks(cfg: CfgNode, name: str) -> tuple[Task, ...]:
    """Of what a data set is evaluated for, that which the configuration asks for."""
    test = cfg.MODEL.MASK_FORMER.TEST
    asked = {
        "panoptic": test.PANOPTIC_ON,
        "semantic": test.SEMANTIC_ON,
        "instance": test.INSTANCE_ON,
    }
    return tuple(task for task in offered_tasks(name) if asked[task])


def evaluated_outputs(cfg: CfgNode, name: str) -> tuple[str, ...]:
    """What the model has to make of each image, in the segmenter's words."""
    tasks = evaluated_tasks(cfg, name)
    return (*tasks, "proposals") if _measures_recall(cfg, name) else tasks


def evaluated_annotations(cfg: CfgNode, name: str) -> set[Task]:
    """Which annotations of an image are compared with."""
    label_maps: set[Task] = {"semantic"} if _measures_recall(cfg, name) else set()
    return label_maps.union(evaluated_tasks(cfg, name))


def build_evaluators(cfg: CfgNode, name: str) -> list[EvaluatorSpec]:
    """What a data set is scored by, each also for seen and unseen classes apart."""
    words = build_test_vocabulary(cfg, name)
    scoring, ignore_label = scoring_of(name)
    about: dict[str, Any] = {
        "seen": words.seen_by(build_known_vocabulary(cfg, name)),
        "names": words.names,
    }
    pixels = {"num_classes": len(words), "ignore_label": ignore_label, **about}
    tasks, evaluator_specs = evaluated_tasks(cfg, name), list[EvaluatorSpec]()
    if "panoptic" in tasks:
        make = partial(PanopticEvaluator, is_thing=words.is_thing, **about)
        evaluator_specs.append(EvaluatorSpec("panoptic", make, _feed_panoptic))
    if "semantic" in tasks:
        evaluator_specs.append(
            EvaluatorSpec("semantic", partial(SemanticEvaluator, **pixels), _feed_semantic)
        )
        if scoring == "cityscapes":
            make = partial(CityscapesSemanticEvaluator, **about)
            evaluator_specs.append(
                EvaluatorSpec("cityscapes_semantic", make, _feed_cityscapes_semantic)
            )
    if "instance" in tasks:
        evaluator_specs.append(_instance_spec(name, scoring, words.is_thing, about))
    if _measures_recall(cfg, name):
        evaluator_specs.append(
            EvaluatorSpec("recall", partial(RecallEvaluator, **pixels), _feed_recall)
        )
    return evaluator_specs


def scoring_of(name: str) -> tuple[Scoring, int]:
    """Whose rules a data set is scored by, and the label of pixels that count for nothing."""
    if name in SHAPES:
        return "coco", 255
    spec = dataset_spec(name)
    return spec.scoring, spec.ignore_label


def offered_tasks(name: str) -> tuple[Task, ...]:
    """What a data set is evaluated for."""
    return ALL_TASKS if name in SHAPES else dataset_spec(name).tasks


def _measures_recall(cfg: CfgNode, name: str) -> bool:
    """Whether mask proposals are measured (Table 8): asked for, and there are label maps."""
    return cfg.MODEL.MASK_FORMER.TEST.RECALL_ON and "semantic" in offered_tasks(name)


def _instance_spec(
    name: str, scoring: Scoring, is_thing: Sequence[bool], about: dict[str, Any]
) -> EvaluatorSpec:
    if scoring == "lvis":
        frequency = [row.frequency for row in class_table(dataset_spec(name).vocabulary)]
        return EvaluatorSpec(
            "lvis", partial(LvisEvaluator, frequency=frequency, **about), _feed_lvis
        )
    things = torch.tensor(is_thing)
    if scoring == "cityscapes":
        make = partial(CityscapesInstanceEvaluator, **about)
        feed = partial(_feed_cityscapes_instances, is_thing=things)
        return EvaluatorSpec("cityscapes_instance", make, feed)
    make = partial(InstanceEvaluator, is_thing=is_thing, **about)
    return EvaluatorSpec("instance", make, partial(_feed_instances, is_thing=things))


def _feed_panoptic(evaluator: PanopticEvaluator, result: Result, sample: Sample) -> None:
    assert result.panoptic is not None and sample.panoptic is not None, UNASKED
    evaluator.process(result.panoptic, sample.panoptic)


def _feed_semantic(evaluator: SemanticEvaluator, result: Result, sample: Sample) -> None:
    assert result.semantic is not None and sample.semantic is not None, UNASKED
    evaluator.process(result.semantic.argmax(dim=0), sample.semantic)


def _feed_cityscapes_semantic(
    evaluator: CityscapesSemanticEvaluator, result: Result, sample: Sample
) -> None:
    assert result.semantic is not None and sample.semantic is not None, UNASKED
    assert sample.panoptic is not None, UNASKED
    evaluator.process(result.semantic.argmax(dim=0), sample.semantic, sample.panoptic)


def _feed_instances(
    evaluator: InstanceEvaluator, result: Result, sample: Sample, *, is_thing: Tensor
) -> None:
    found = _things_among(result.instances, is_thing)
    if sample.instances is not None:
        evaluator.process_annotations(found, sample.instances)
    else:
        assert sample.panoptic is not None, UNASKED
        evaluator.process(found, sample.panoptic)


def _feed_cityscapes_instances(
    evaluator: CityscapesInstanceEvaluator, result: Result, sample: Sample, *, is_thing: Tensor
) -> None:
    assert sample.instance_ids is not None, UNASKED
    evaluator.process_instance_ids(_things_among(result.instances, is_thing), sample.instance_ids)


def _feed_lvis(evaluator: LvisEvaluator, result: Result, sample: Sample) -> None:
    assert result.instances is not None and sample.instances is not None, UNASKED
    assert sample.federated is not None, "the LVIS file says nothing of absent classes"
    evaluator.process(
        result.instances,
        sample.instances,
        negative_class_ids=sample.federated.absent,
        not_exhaustive_class_ids=sample.federated.incomplete,
    )


def _feed_recall(evaluator: RecallEvaluator, result: Result, sample: Sample) -> None:
    """SAM's masks count as proposals beside the queries', where they are used."""
    assert sample.semantic is not None, UNASKED
    masks = [result.extras[kind] for kind in (PROPOSALS, SAM_PROPOSALS) if kind in result.extras]
    evaluator.process(torch.cat(masks), sample.semantic)


def _things_among(instances: Instances | None, is_thing: Tensor) -> Instances:
    """Without panoptic output the model scores masks of stuff, too, which no object is."""
    assert instances is not None, UNASKED
    keep = is_thing.to(instances.class_ids.device)[instances.class_ids]
    return Instances(*(field[keep] for field in instances))
