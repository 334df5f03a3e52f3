"""A whole run: training with its evaluation, or evaluation alone."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from fvcore.common.config import CfgNode
from rich.console import Console

from frozenseg.builders.evaluation import check_test_sets, evaluate_datasets, flat_metrics
from frozenseg.builders.segmenter import load_model
from frozenseg.builders.trainer import build_trainer, build_training_model
from frozenseg.builders.vocabularies import trained_in_this_run
from frozenseg.evaluation.loop import Report
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


class RunOptions(NamedTuple):
    """What the command line says besides the configuration."""

    resume: bool = False
    eval_only: bool = False
    accumulate: int = 1
    wandb_project: str | None = None
    skip_bad: bool = False


def run(cfg: CfgNode, options: RunOptions) -> int:
    """Does everything in this process, one of those of the run; the exit status.

    Raises:
        UserError: something that the user can mend.
    """
    folder = Path(cfg.OUTPUT_DIR)
    set_up_logging(folder, rank=process_rank())
    logger.info("engine: native, output: %s", folder)
    check_test_sets(cfg, skip_bad=options.skip_bad)
    if options.eval_only:
        return _evaluate_alone(cfg, folder, options)
    with ExitStack() as writers:
        with StopRequest() as stop:
            model = build_training_model(cfg, process_device(cfg.MODEL.DEVICE))
            trainer = _prepare(cfg, model, folder, options)
            for writer in trainer.writers:
                writers.callback(writer.close)
            status = _train(trainer, stop)
        if status == 0:
            _finish(cfg, model, trainer, folder, options)
    return status


def _train(trainer: Trainer, stop: StopRequest) -> int:
    try:
        finished = trainer.run(stop)
    except Diverged as fault:
        logger.error("after iteration %d: %s", trainer.iteration, fault)
        return DIVERGED_EXIT_CODE
    if finished:
        return 0
    logger.info("stopped after iteration %d: --resume goes on", trainer.iteration)
    return REQUEUE_EXIT_CODE


def _finish(
    cfg: CfgNode, model: SegmentationModel, trainer: Trainer, folder: Path, options: RunOptions
) -> None:
    """Gives the last weights their final name and evaluates them."""
    if is_main_process():
        publish_weights(trainer.checkpoints.path(trainer.iteration), folder / FINAL_WEIGHTS)
    reports = _evaluate(trained_in_this_run(cfg), model, folder / "inference", options)
    if reports and is_main_process():
        write_all(trainer.writers, trainer.iteration, flat_metrics(reports))


def _prepare(cfg: CfgNode, model: SegmentationModel, folder: Path, options: RunOptions) -> Trainer:
    def evaluate(iteration: int) -> Mapping[str, float]:
        part = folder / f"inference-{iteration:07d}"
        return flat_metrics(
            evaluate_datasets(
                trained_in_this_run(cfg),
                model,
                part,
                resume=options.resume,
                skip_bad=options.skip_bad,
            )
        )

    trainer = build_trainer(
        cfg,
        model,
        device=process_device(cfg.MODEL.DEVICE),
        resume=options.resume,
        accumulate=options.accumulate,
        wandb_project=options.wandb_project,
        skip_bad=options.skip_bad,
        evaluate=evaluate if cfg.DATASETS.TEST else None,
    )
    if is_main_process():
        describe_run(folder, cfg, engine="native", resumed=trainer.iteration > 0)
        count = sum(value.numel() for value in trainer.step.model.trainable_state().values())
        logger.info("%.2f M trained parameters", count / 1e6)
    return trainer


def _evaluate_alone(cfg: CfgNode, folder: Path, options: RunOptions) -> int:
    """Evaluates ``MODEL.WEIGHTS``, or without it the newest sound checkpoint of the run."""
    weights = cfg.MODEL.WEIGHTS or str(CheckpointFolder(folder / "checkpoints").newest_path() or "")
    model = load_model(cfg, weights)
    logger.info("weights: %s", weights or "none")
    _evaluate(cfg, model, folder / "inference", options)
    return 0


def _evaluate(
    cfg: CfgNode, model: SegmentationModel, folder: Path, options: RunOptions
) -> dict[str, Report]:
    reports = evaluate_datasets(
        cfg, model, folder, resume=options.resume, skip_bad=options.skip_bad
    )
    if is_main_process():
        for name, report in reports.items():
            Console().print(metrics_table(report.metrics, title=name))
            logger.info("written to %s", folder / name)
    wait_for_all()
    return reports
