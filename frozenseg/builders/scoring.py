"""Tasks, evaluators and prediction formats of a test set."""

from collections.abc import Sequence
from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.builders.vocabularies import build_known_vocabulary, build_test_vocabulary
from frozenseg.data.catalog import SHAPES, dataset_spec
from frozenseg.data.specs import Scoring, Task
from frozenseg.evaluation.evaluators import EvaluatorSpec, ScoringRules, evaluators_for
from frozenseg.evaluation.predictions import (
    CityscapesInstances,
    CocoInstances,
    CocoPanoptic,
    LabelMaps,
    PredictionWriter,
)
from frozenseg.vocabulary.class_tables import class_table

ALL_TASKS: tuple[Task, ...] = ("panoptic", "semantic", "instance")
ADE20K = "ade20k_150"  # its official label maps count classes from 1


def offered_tasks(name: str) -> tuple[Task, ...]:
    """Returns the tasks that a data set has annotations for."""
    return ALL_TASKS if name in SHAPES else dataset_spec(name).tasks


def evaluated_tasks(cfg: CfgNode, name: str) -> tuple[Task, ...]:
    """Returns the offered tasks of a data set that the configuration enables."""
    test = cfg.MODEL.MASK_FORMER.TEST
    enabled = {
        "panoptic": test.PANOPTIC_ON,
        "semantic": test.SEMANTIC_ON,
        "instance": test.INSTANCE_ON,
    }
    return tuple(task for task in offered_tasks(name) if enabled[task])


def evaluated_outputs(cfg: CfgNode, name: str) -> tuple[str, ...]:
    """Returns the outputs that the segmenter must make for each image."""
    tasks = evaluated_tasks(cfg, name)
    return (*tasks, "proposals") if _measures_recall(cfg, name) else tasks


def evaluated_annotations(cfg: CfgNode, name: str) -> set[Task]:
    """Returns the annotations of an image that the evaluators read."""
    label_maps: set[Task] = {"semantic"} if _measures_recall(cfg, name) else set()
    return label_maps.union(evaluated_tasks(cfg, name))


def scoring_of(name: str) -> tuple[Scoring, int]:
    """Returns the scoring protocol of a data set and its ignore label."""
    if name in SHAPES:
        return "coco", 255
    spec = dataset_spec(name)
    return spec.scoring, spec.ignore_label


def build_evaluators(cfg: CfgNode, name: str) -> list[EvaluatorSpec]:
    """Returns the evaluators of a test set; each also reports seen and unseen classes."""
    vocabulary = build_test_vocabulary(cfg, name)
    scoring, ignore_label = scoring_of(name)
    frequency = None
    if scoring == "lvis":
        frequency = [row.frequency for row in class_table(dataset_spec(name).vocabulary)]
    return evaluators_for(
        ScoringRules(
            tasks=evaluated_tasks(cfg, name),
            names=vocabulary.names,
            is_thing=vocabulary.is_thing,
            seen=vocabulary.seen_by(build_known_vocabulary(cfg, name)),
            scoring=scoring,
            ignore_label=ignore_label,
            frequency=frequency,
            recall=_measures_recall(cfg, name),
        )
    )


def build_prediction_writers(cfg: CfgNode, name: str, folder: Path) -> list[PredictionWriter]:
    """Returns a writer for each evaluated task of a test set, in its official format.

    Args:
        cfg: the configuration.
        name: the test set.
        folder: for the files.
    """
    vocabulary = build_test_vocabulary(cfg, name)
    scoring, _ = scoring_of(name)
    is_thing, tasks = vocabulary.is_thing, evaluated_tasks(cfg, name)
    writers: list[PredictionWriter] = []
    if "panoptic" in tasks:
        ids = _category_ids(name, "panoptic", len(vocabulary))
        writers.append(
            CocoPanoptic(folder, category_ids=ids, names=vocabulary.names, is_thing=is_thing)
        )
    if "semantic" in tasks:
        writers.append(LabelMaps(folder, labels=_label_values(name, len(vocabulary))))
    if "instance" in tasks and scoring == "cityscapes":
        labels = _label_values(name, len(vocabulary))
        writers.append(CityscapesInstances(folder, labels=labels, is_thing=is_thing))
    elif "instance" in tasks:
        ids = _category_ids(name, "instance", len(vocabulary))
        writers.append(CocoInstances(folder, category_ids=ids, is_thing=is_thing))
    return writers


def _measures_recall(cfg: CfgNode, name: str) -> bool:
    """Returns True if the recall of mask proposals (Table 8) is enabled and can be measured."""
    return cfg.MODEL.MASK_FORMER.TEST.RECALL_ON and "semantic" in offered_tasks(name)


def _category_ids(name: str, task: Task, num_classes: int) -> Sequence[int]:
    """Returns the ids of the classes in the annotation file of a task."""
    if name in SHAPES:
        return range(num_classes)
    spec = dataset_spec(name)
    files = spec.instances if task == "instance" and spec.instances is not None else spec.panoptic
    contiguous = files is not None and files.contiguous
    return range(num_classes) if contiguous else spec.class_list.ids


def _label_values(name: str, num_classes: int) -> Sequence[int]:
    """Returns the values of the classes in official label maps, else the class ids."""
    if name in SHAPES:
        return range(num_classes)
    spec = dataset_spec(name)
    if spec.semantic is not None and spec.semantic.own_ids is not None:
        return spec.class_list.ids
    first = 1 if spec.vocabulary == ADE20K else 0
    return range(first, first + num_classes)
