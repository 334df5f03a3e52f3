"""Evaluating a model on the data sets that its configuration names."""

import hashlib
import logging
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from frozenseg.data.catalog import SHAPES, dataset_samples, dataset_vocabulary
from frozenseg.data.specs import Task, dataset_spec
from frozenseg.engine.build import build_judges, build_preparation, evaluated_tasks
from frozenseg.engine.distributed import is_main_process
from frozenseg.engine.evaluate import Report, evaluate
from frozenseg.engine.run_folder import config_digest
from frozenseg.evaluation import write_report
from frozenseg.inference.build import build_segmenter
from frozenseg.modeling.frozenseg import FrozenSeg

logger = logging.getLogger(__name__)

ALL_TASKS: tuple[Task, ...] = ("panoptic", "semantic", "instance")
SHAPES_AT_ONCE = 8  # images of one size; real ones go one by one, as in published evaluations


def evaluate_datasets(
    cfg: CfgNode, model: FrozenSeg, folder: Path, *, resume: bool = False
) -> dict[str, Report]:
    """A report for each of ``DATASETS.TEST``, also written to ``folder/<data set>``.

    Every process must come here. ``resume`` goes on with an interrupted evaluation of the same.
    """
    segmenter = build_segmenter(cfg, model=model)
    reports = {}
    for name in cfg.DATASETS.TEST:
        tasks, ignore_label = offered_tasks(name)
        tasks = evaluated_tasks(cfg, tasks)
        samples = dataset_samples(name, tasks=tasks)
        logger.info("evaluating %s: %d images, %s", name, len(samples), ", ".join(tasks))
        report = evaluate(
            samples,
            prepare=build_preparation(cfg),
            predict=segmenter.predictor(dataset_vocabulary(name)),
            judges=build_judges(cfg, name, tasks, ignore_label=ignore_label),
            folder=folder / name,
            key=f"{name} {len(samples)} {config_digest(cfg)} {weights_digest(model)}",
            resume=resume,
            batch_size=SHAPES_AT_ONCE if name in SHAPES else 1,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )
        if is_main_process():
            write_report(folder / name, report.metrics, report.per_class)
        reports[name] = report
    return reports


def flat_metrics(reports: dict[str, Report]) -> dict[str, float]:
    """All numbers under flat names, which begin with the data set's where there are several."""
    if len(reports) == 1:
        (report,) = reports.values()
        return report.metrics
    return {
        f"{name}/{measure}": value
        for name, report in reports.items()
        for measure, value in report.metrics.items()
    }


@torch.no_grad()
def weights_digest(model: FrozenSeg) -> str:
    """A short name of the trained weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.trainable_state().items()):
        digest.update(name.encode())
        digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def offered_tasks(name: str) -> tuple[tuple[Task, ...], int]:
    """What a data set can be evaluated for, and the label of pixels that count for nothing."""
    if name in SHAPES:
        return ALL_TASKS, 255
    spec = dataset_spec(name)
    return spec.tasks, 255 if spec.semantic is None else spec.semantic.ignore_label
