"""A complete run of the native engine: training with evaluation, or evaluation alone."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from fvcore.common.config import CfgNode
from rich.console import Console

from frozenseg.builders.evaluation import (
    check_test_sets,
    evaluate_datasets,
    flat_metrics,
    save_report,
)
from frozenseg.builders.options import RunOptions
from frozenseg.builders.segmenter import load_model
from frozenseg.builders.trainer import CHECKPOINTS, Training, build_training
from frozenseg.builders.vocabularies import trained_in_this_run
from frozenseg.evaluation.loop import Report
from frozenseg.io.writing import optional_file
from frozenseg.metrics import metrics_table
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.runtime.devices import process_device
from frozenseg.runtime.distributed import is_main_process, process_rank, wait_for_all
from frozenseg.runtime.run_folder import describe_run, set_up_logging
from frozenseg.runtime.signals import REQUEUE_EXIT_CODE, StopRequest
from frozenseg.training.checkpoints import FINAL_WEIGHTS, CheckpointFolder, publish_weights
from frozenseg.training.divergence import DIVERGED_EXIT_CODE, Diverged
from frozenseg.training.metric_writers import write_all
from frozenseg.training.trainer import Trainer

logger = logging.getLogger(__name__)

INFERENCE = "inference"  # subfolder of OUTPUT_DIR with the results of evaluations


def run(cfg: CfgNode, options: RunOptions) -> int:
    """Runs everything in this process and returns the exit status. Collective.

    Raises:
        UserError: a mistake that the user can fix.
    """
    folder = Path(cfg.OUTPUT_DIR)
    set_up_logging(folder, rank=process_rank())
    logger.info("engine: native, output: %s", folder)
    check_test_sets(cfg, skip_bad=options.skip_bad)
    if options.eval_only:
        _evaluate_only(cfg, folder, options)
        return 0
    with ExitStack() as writers:
        with StopRequest() as stop:
            model, trainer = _prepare(cfg, folder, options)
            for writer in trainer.writers:
                writers.callback(writer.close)
            status = train_until_stop(trainer, stop)
        if status == 0:
            _finish(cfg, model, trainer, folder, options)
    return status


def _prepare(cfg: CfgNode, folder: Path, options: RunOptions) -> Training:
    def evaluate(model: SegmentationModel, iteration: int) -> Mapping[str, float]:
        place = folder / f"{INFERENCE}-{iteration:07d}"
        reports = evaluate_datasets(trained_in_this_run(cfg), model, place, options)
        _save_optional(reports, place)
        return flat_metrics(reports)

    training = build_training(
        cfg,
        device=process_device(cfg.MODEL.DEVICE),
        options=options,
        evaluate=evaluate if cfg.DATASETS.TEST else None,
    )
    if is_main_process():
        describe_run(folder, cfg.dump(), engine="native", resumed=training.trainer.iteration > 0)
        groups = training.trainer.step.optimizer.param_groups
        count = sum(value.numel() for group in groups for value in group["params"])
        logger.info("%.2f M trained parameters", count / 1e6)
    return training


def train_until_stop(trainer: Trainer, stop: StopRequest) -> int:
    """Trains to the end, a stop or a divergence, and returns the exit status."""
    try:
        finished = trainer.run(stop)
    except Diverged as error:
        logger.error("after iteration %d: %s", trainer.iteration, error)
        return DIVERGED_EXIT_CODE
    if finished:
        return 0
    logger.info("stopped after iteration %d; --resume continues the run", trainer.iteration)
    return REQUEUE_EXIT_CODE


def _finish(
    cfg: CfgNode, model: SegmentationModel, trainer: Trainer, folder: Path, options: RunOptions
) -> None:
    """Copies the last weights to their final name and evaluates them."""
    if is_main_process():
        publish_weights(trainer.checkpoints.path(trainer.iteration), folder / FINAL_WEIGHTS)
    reports = evaluate_datasets(trained_in_this_run(cfg), model, folder / INFERENCE, options)
    _show(reports)
    _save_optional(reports, folder / INFERENCE)
    if reports and is_main_process():
        write_all(trainer.writers, trainer.iteration, flat_metrics(reports))
    wait_for_all()


def _evaluate_only(cfg: CfgNode, folder: Path, options: RunOptions) -> None:
    """Evaluates ``MODEL.WEIGHTS``, by default the newest undamaged checkpoint of the run."""
    newest = None if cfg.MODEL.WEIGHTS else CheckpointFolder(folder / CHECKPOINTS).newest_path()
    weights = cfg.MODEL.WEIGHTS or str(newest or "")
    model = load_model(cfg, weights)
    logger.info("weights: %s", weights or "none")
    reports = evaluate_datasets(cfg, model, folder / INFERENCE, options)
    _show(reports)
    if is_main_process():
        for name, report in reports.items():
            save_report(report, folder / INFERENCE / name)
            logger.info("written to %s", folder / INFERENCE / name)
    wait_for_all()


def _show(reports: Mapping[str, Report]) -> None:
    if is_main_process():
        for name, report in reports.items():
            Console().print(metrics_table(report.metrics, title=name))


def _save_optional(reports: Mapping[str, Report], folder: Path) -> None:
    """Writes reports of a training; a full disk must not end it."""
    if is_main_process():
        for name, report in reports.items():
            with optional_file(f"the report of {name}"):
                save_report(report, folder / name)
                logger.info("written to %s", folder / name)
