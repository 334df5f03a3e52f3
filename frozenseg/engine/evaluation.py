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
from frozenseg.engine.evaluate import Report, Samples, evaluate
from frozenseg.engine.run_folder import config_digest
from frozenseg.evaluation import write_report
from frozenseg.inference.build import build_segmenter
from frozenseg.inference.segmenter import Segmenter
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.structures import Sample

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
    return {
        name: evaluate_dataset(cfg, segmenter, name, folder / name, resume=resume)
        for name in cfg.DATASETS.TEST
    }


def evaluate_dataset(
    cfg: CfgNode,
    segmenter: Segmenter,
    name: str,
    folder: Path,
    *,
    resume: bool = False,
    limit: int | None = None,
) -> Report:
    """The report of a data set, or of its first ``limit`` images; also written to ``folder``."""
    offered, ignore_label = offered_tasks(name)
    tasks = evaluated_tasks(cfg, offered)
    samples = FirstSamples(dataset_samples(name, tasks=tasks), limit)
    logger.info("evaluating %s: %d images, %s", name, len(samples), ", ".join(tasks))
    digests = f"{config_digest(cfg)} {weights_digest(segmenter.model)}"
    report = evaluate(
        samples,
        prepare=build_preparation(cfg),
        predict=segmenter.predictor(dataset_vocabulary(name)),
        judges=build_judges(cfg, name, tasks, ignore_label=ignore_label),
        folder=folder,
        key=f"{name} {len(samples)} {digests}",
        resume=resume,
        batch_size=SHAPES_AT_ONCE if name in SHAPES else 1,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    if is_main_process():
        write_report(folder, report.metrics, report.per_class)
    return report


class FirstSamples:
    """The first ``limit`` samples of a data set; None: all of them."""

    def __init__(self, samples: Samples, limit: int | None) -> None:
        self.samples = samples
        self.size = len(samples) if limit is None else min(limit, len(samples))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


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
