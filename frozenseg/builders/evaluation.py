"""Evaluation of a model on the test sets of its configuration."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.builders.fingerprints import config_digest, vocabulary_digest, weights_digest
from frozenseg.builders.options import DEFAULT_OPTIONS, RunOptions
from frozenseg.builders.scoring import (
    build_evaluators,
    build_prediction_writers,
    evaluated_annotations,
    evaluated_outputs,
)
from frozenseg.builders.segmenter import build_segmenter
from frozenseg.builders.training import build_preparation
from frozenseg.builders.vocabularies import build_known_vocabulary, build_test_vocabulary
from frozenseg.data.catalog import dataset_name, dataset_samples
from frozenseg.data.loading import Samples
from frozenseg.data.readers.samples import DatasetSamples
from frozenseg.errors import ConfigError, UserError
from frozenseg.evaluation.loop import Report, evaluate
from frozenseg.inference.segmenter import Segmenter
from frozenseg.io.writing import write_text
from frozenseg.metrics import write_report
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.structures import Sample

logger = logging.getLogger(__name__)

SKIPPED_FILE = "skipped.txt"


def evaluate_datasets(
    cfg: CfgNode,
    model: SegmentationModel,
    folder: Path,
    options: RunOptions = DEFAULT_OPTIONS,
) -> dict[str, Report]:
    """Evaluates a model on each of ``DATASETS.TEST``. Collective.

    Args:
        cfg: the configuration.
        model: the model to evaluate.
        folder: for the finished blocks of each data set.
        options: ``resume``, ``skip_bad``, ``limit`` and ``save_predictions`` apply.

    Returns:
        A report by data set.
    """
    segmenter = build_segmenter(cfg, model=model)
    reports: dict[str, Report] = {}
    for name in cfg.DATASETS.TEST:
        title = dataset_name(name)
        if title in reports:
            raise UserError(f"two data sets of DATASETS.TEST are called {title}: rename one")
        predictions = options.save_predictions and options.save_predictions / title
        own = replace(options, save_predictions=predictions)
        reports[title] = evaluate_dataset(cfg, segmenter, name, folder / title, own)
    return reports


def evaluate_dataset(
    cfg: CfgNode,
    segmenter: Segmenter,
    name: str,
    folder: Path,
    options: RunOptions = DEFAULT_OPTIONS,
) -> Report:
    """Evaluates a segmenter on one data set. Collective.

    Args:
        cfg: the configuration.
        segmenter: the model with its ensembles and post-processing.
        name: a registered data set.
        folder: for the finished blocks; ``save_report`` writes the results.
        options: ``resume``, ``skip_bad``, ``limit`` and ``save_predictions`` apply.

    Raises:
        UserError: a file is missing or damaged and ``skip_bad`` is off, or predictions cannot be
            written.
    """
    every = open_test_set(cfg, name, skip_bad=options.skip_bad)
    samples = FirstSamples(every, options.limit)
    outputs = evaluated_outputs(cfg, name)
    logger.info("evaluating %s: %d images, %s", name, len(samples), ", ".join(outputs))
    vocabulary, known = build_test_vocabulary(cfg, name), build_known_vocabulary(cfg, name)
    predictions = options.save_predictions
    key = [
        name,
        str(len(samples)),
        config_digest(cfg),
        weights_digest(segmenter.model.trainable_state()),
        vocabulary_digest(vocabulary, known),
        *([] if predictions is None else [str(predictions.absolute())]),
    ]
    report = evaluate(
        samples,
        prepare=build_preparation(cfg, name),
        predict=segmenter.build_predictor(vocabulary, outputs=outputs, training=known),
        evaluators=build_evaluators(cfg, name),
        writers=[] if predictions is None else build_prediction_writers(cfg, name, predictions),
        folder=folder,
        key=" ".join(key),
        resume=options.resume,
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        skip_bad=options.skip_bad,
    )
    return replace(report, skipped=(*_missing_files(every), *report.skipped))


def save_report(report: Report, folder: Path) -> None:
    """Writes ``metrics.json``, a table per task and, if samples were left out, ``skipped.txt``.

    Raises:
        UserError: a file cannot be written.
    """
    write_report(folder, report.metrics, report.per_class)
    path = folder / SKIPPED_FILE
    path.unlink(missing_ok=True)
    if report.skipped:
        write_text(path, "\n".join(report.skipped) + "\n")
        logger.warning("%d bad files were left out: %s lists them", len(report.skipped), path)


def check_test_sets(cfg: CfgNode, *, skip_bad: bool = False) -> None:
    """Opens all test sets, so that a mistake stops a run before its long work.

    Raises:
        UserError: a file is missing, an annotation is broken, class names do not fit, or nothing
            is measured.
    """
    for name in cfg.DATASETS.TEST:
        open_test_set(cfg, name, skip_bad=skip_bad)


def open_test_set(cfg: CfgNode, name: str, *, skip_bad: bool = False) -> Samples:
    """Returns the samples of a test set with the annotations that its evaluators read.

    Raises:
        UserError: see ``check_test_sets``.
    """
    if not evaluated_outputs(cfg, name):
        raise ConfigError(
            f"nothing is measured on {name}: turn on one of PANOPTIC_ON, SEMANTIC_ON and "
            "INSTANCE_ON of MODEL.MASK_FORMER.TEST"
        )
    build_test_vocabulary(cfg, name)
    return dataset_samples(name, tasks=evaluated_annotations(cfg, name), skip_bad=skip_bad)


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
    """Returns all metrics under flat names, which begin with the data set if there are several."""
    if len(reports) == 1:
        (report,) = reports.values()
        return report.metrics
    return {
        f"{name}/{measure}": value
        for name, report in reports.items()
        for measure, value in report.metrics.items()
    }


def _missing_files(samples: Samples) -> Sequence[str]:
    """Returns one sentence per file that was missing when the data set was opened."""
    if not isinstance(samples, DatasetSamples):
        return ()
    return [str(each) for each in samples.skipped]
