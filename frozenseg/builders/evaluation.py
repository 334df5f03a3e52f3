"""Evaluating a model on the data sets that its configuration names."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from frozenseg.builders.segmenter import build_segmenter
from frozenseg.builders.training import build_preparation
from frozenseg.builders.vocabularies import build_known_vocabulary, build_test_vocabulary
from frozenseg.config import ConfigError
from frozenseg.data.catalog import SHAPES, dataset_name, dataset_samples
from frozenseg.data.loading import Samples
from frozenseg.data.readers.samples import DatasetSamples
from frozenseg.errors import UserError
from frozenseg.evaluation.evaluators import (
    build_evaluators,
    evaluated_annotations,
    evaluated_outputs,
)
from frozenseg.evaluation.loop import Report, evaluate
from frozenseg.inference.segmenter import Segmenter
from frozenseg.io.files import atomic_write
from frozenseg.metrics import write_report
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.runtime.distributed import is_main_process
from frozenseg.runtime.run_folder import config_digest
from frozenseg.structures import Sample
from frozenseg.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

SHAPES_AT_ONCE = 8  # images of one size; real ones go one by one, as in published evaluations


def evaluate_datasets(
    cfg: CfgNode,
    model: SegmentationModel,
    folder: Path,
    *,
    resume: bool = False,
    skip_bad: bool = False,
) -> dict[str, Report]:
    """A report for each of ``DATASETS.TEST``, also written to ``folder/<data set>``.

    Every process must come here. ``resume`` goes on with an interrupted evaluation of the same.
    """
    segmenter = build_segmenter(cfg, model=model)
    reports: dict[str, Report] = {}
    for name in cfg.DATASETS.TEST:
        own = dataset_name(name)
        if own in reports:
            raise UserError(f"two data sets of DATASETS.TEST are called {own}: rename one")
        reports[own] = evaluate_dataset(
            cfg, segmenter, name, folder / own, resume=resume, skip_bad=skip_bad
        )
    return reports


def evaluate_dataset(
    cfg: CfgNode,
    segmenter: Segmenter,
    name: str,
    folder: Path,
    *,
    resume: bool = False,
    skip_bad: bool = False,
    limit: int | None = None,
) -> Report:
    """The report of a data set, or of its first ``limit`` images; also written to ``folder``.

    ``skip_bad`` leaves out images with a missing or damaged file; the report and ``skipped.txt``
    list them.
    """
    every = open_test_set(cfg, name, skip_bad=skip_bad)
    samples = FirstSamples(every, limit)
    outputs = evaluated_outputs(cfg, name)
    logger.info("evaluating %s: %d images, %s", name, len(samples), ", ".join(outputs))
    words, known = build_test_vocabulary(cfg, name), build_known_vocabulary(cfg, name)
    digests = f"{config_digest(cfg)} {weights_digest(segmenter.model)} {words_digest(words, known)}"
    report = evaluate(
        samples,
        prepare=build_preparation(cfg, name),
        predict=segmenter.build_predictor(words, outputs=outputs, training=known),
        evaluator_specs=build_evaluators(cfg, name),
        folder=folder,
        key=f"{name} {len(samples)} {digests}",
        resume=resume,
        batch_size=SHAPES_AT_ONCE if name in SHAPES else 1,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        skip_bad=skip_bad,
    )
    report = report._replace(skipped=(*missing_files(every), *report.skipped))
    if is_main_process():
        write_report(folder, report.metrics, report.per_class)
        note_skipped(folder, report.skipped)
    return report


def check_test_sets(cfg: CfgNode, *, skip_bad: bool = False) -> None:
    """Opens all test sets, so that what can be seen in advance stops a run before its long work.

    Raises:
        UserError: a file is missing or an annotation broken; words do not fit; nothing to measure.
    """
    for name in cfg.DATASETS.TEST:
        open_test_set(cfg, name, skip_bad=skip_bad)


def open_test_set(cfg: CfgNode, name: str, *, skip_bad: bool = False) -> Samples:
    """The samples of a test set with the annotations that its evaluator_specs need."""
    outputs = evaluated_outputs(cfg, name)
    if not outputs:
        raise ConfigError(
            f"nothing is to be measured on {name}: turn on one of PANOPTIC_ON, SEMANTIC_ON and "
            "INSTANCE_ON of MODEL.MASK_FORMER.TEST"
        )
    build_test_vocabulary(cfg, name)
    return dataset_samples(name, tasks=evaluated_annotations(cfg, name), skip_bad=skip_bad)


def missing_files(samples: Samples) -> list[str]:
    """Why images of a data set on the disk were left out before it began, a sentence each."""
    if not isinstance(samples, DatasetSamples):
        return []
    return [str(each) for each in samples.skipped]


def note_skipped(folder: Path, reasons: Sequence[str]) -> None:
    """Says how many files were left out, and lists them in ``skipped.txt``."""
    path = folder / "skipped.txt"
    path.unlink(missing_ok=True)
    if reasons:
        with atomic_write(path) as part:
            part.write_text("\n".join(reasons) + "\n", encoding="utf8")
        logger.warning("left out because of %d bad files: %s lists them", len(reasons), path)


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
def weights_digest(model: SegmentationModel) -> str:
    """A short name of the trained weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.trainable_state().items()):
        digest.update(name.encode())
        digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def words_digest(*vocabularies: Vocabulary) -> str:
    """A short name of the words, which may come from a file that changes."""
    words = json.dumps([each.synonyms for each in vocabularies])
    return hashlib.sha256(words.encode()).hexdigest()[:16]
