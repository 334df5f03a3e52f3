"""A training from its configuration: fresh, or going on from its last checkpoint."""

import logging
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from frozenseg.builders.model import build_model, has_trained_parts, trained_part
from frozenseg.builders.segmenter import load_model
from frozenseg.builders.training import (
    autocast_type,
    build_adamw,
    build_criterion,
    build_mapper,
    build_schedule,
    check_numbers,
)
from frozenseg.builders.vocabularies import build_training_vocabulary, only_training_set
from frozenseg.checkpoint.class_names import classes_note
from frozenseg.checkpoint.weights import tower_notes
from frozenseg.data.catalog import training_samples
from frozenseg.errors import UserError
from frozenseg.io.files import cache_folder
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.runtime.distributed import (
    is_main_process,
    num_processes,
    process_rank,
    share_text,
    share_weights,
    wait_for_all,
)
from frozenseg.runtime.random_state import seed_everything
from frozenseg.runtime.run_folder import config_digest
from frozenseg.towers.roles import TextEncoder
from frozenseg.training.checkpoints import Checkpoint, CheckpointFolder, check_same_towers
from frozenseg.training.loader import training_batches
from frozenseg.training.metric_writers import JsonLines, TensorBoard, WeightsAndBiases, Writer
from frozenseg.training.step import TrainStep
from frozenseg.training.trainer import Trainer
from frozenseg.training.training_state import restore_state
from frozenseg.vocabulary.text_classifier import TextClassifier, embed_vocabulary

logger = logging.getLogger(__name__)

Evaluate = Callable[[int], Mapping[str, float]]


def build_trainer(
    cfg: CfgNode,
    model: SegmentationModel,
    *,
    device: torch.device,
    resume: bool = False,
    accumulate: int = 1,
    wandb_project: str | None = None,
    skip_bad: bool = False,
    evaluate: Evaluate | None = None,
) -> Trainer:
    """Everything of a training, ready to run; every process must come here.

    Args:
        resume: goes on from the newest checkpoint below ``OUTPUT_DIR``, if there is one.
        accumulate: into how many parts each process cuts its share of a batch.
        wandb_project: also send metrics to Weights & Biases.
        skip_bad: leave out samples with a missing or damaged file, and log them.
        evaluate: called with the iteration every ``TEST.EVAL_PERIOD`` iterations.

    Raises:
        UserError: the configuration, the data set or the output folder do not allow it.
    """
    check_numbers(cfg)
    batch_size = share_of_batch(cfg.SOLVER.IMS_PER_BATCH, accumulate)
    folder = Path(cfg.OUTPUT_DIR)
    checkpoints = CheckpointFolder(folder / "checkpoints")
    saved = saved_state(checkpoints, resume=resume, num_iterations=cfg.SOLVER.MAX_ITER)
    seed = choose_seed(cfg.SEED, saved)
    seed_everything(seed)
    step = _build_step(cfg, model, device)
    about = {
        **tower_notes(step.model),
        **classes_note(build_training_vocabulary(cfg)),
        "config": config_digest(cfg),
        "seed": str(seed),
    }
    seed_everything(seed + 1 + process_rank())  # points are drawn anew in each process
    if saved is not None:
        check_same_towers(saved.about, tower_notes(step.model), source=str(checkpoints.folder))
        restore_state(step, saved)
    start = 0 if saved is None else saved.iteration
    samples_seen = 0 if saved is None else saved.numbers["samples_seen"]
    return Trainer(
        step=step,
        batches=training_batches(
            training_samples(only_training_set(cfg), skip_bad=skip_bad),
            augment=build_mapper(cfg),
            batch_size=batch_size,
            seed=seed,
            rank=process_rank(),
            world_size=num_processes(),
            start=samples_seen,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            pin_memory=device.type == "cuda",
            skip_bad=skip_bad,
        ),
        schedule=build_schedule(cfg),
        num_iterations=cfg.SOLVER.MAX_ITER,
        checkpoints=checkpoints,
        checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
        writers=_build_writers(cfg, folder, start, wandb_project) if is_main_process() else (),
        about=about,
        start=start,
        samples_seen=samples_seen,
        unlogged=None if saved is None else saved.numbers.get("unlogged"),
        accumulate=accumulate,
        evaluation_period=cfg.TEST.EVAL_PERIOD,
        evaluate=evaluate,
    )


def share_of_batch(total: int, accumulate: int) -> int:
    """Images that one process sees at once, so that all parts together are the whole batch.

    Raises:
        UserError: the batch cannot be cut into equal parts.
    """
    parts = num_processes() * accumulate
    if accumulate < 1 or total % parts:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {total}, which {num_processes()} processes with --accumulate "
            f"{accumulate} cannot share equally: change one of the three"
        )
    return total // parts


def build_training_classifier(
    cfg: CfgNode, encoder: TextEncoder, device: torch.device
) -> TextClassifier:
    """The training classes as the text tower knows them, embedded once and kept."""
    if not is_main_process():
        wait_for_all()  # the main process embeds the words, the others find them in the cache
    classifier = embed_vocabulary(
        encoder, build_training_vocabulary(cfg), cache_dir=cache_folder() / "text"
    )
    if is_main_process():
        wait_for_all()
    return classifier.to(device)


def build_training_model(cfg: CfgNode, device: torch.device) -> SegmentationModel:
    """Builds the model with ``MODEL.WEIGHTS``, if set, and equal weights on every rank.

    Collective: call it on every rank.

    Raises:
        UserError: the model has no part to train, or the weights do not fit.
    """
    if not has_trained_parts(cfg):
        raise UserError("this configuration has no part to train: evaluate it with --eval-only")
    model = load_model(cfg, cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else build_model(cfg)
    model.to(device)
    share_weights(model.trainable_state().values())
    return model


def _build_step(cfg: CfgNode, model: SegmentationModel, device: torch.device) -> TrainStep:
    return TrainStep(
        model=trained_part(model),
        classifier=build_training_classifier(cfg, model.text_encoder, device),
        criterion=build_criterion(cfg),
        optimizer=build_adamw(cfg, trained_part(model)),
        device=device,
        autocast=autocast_type(cfg),
    )


def saved_state(
    checkpoints: CheckpointFolder, *, resume: bool, num_iterations: int
) -> Checkpoint | None:
    """The checkpoint to go on from, the same in every process.

    Raises:
        UserError: it was not asked for, cannot be read, or is beyond the end of the run.
    """
    if not resume:
        wait_for_all()
        if checkpoints.paths():
            raise UserError(
                f"{checkpoints.folder} holds the checkpoints of another run: pass --resume to go "
                "on with it, or choose another OUTPUT_DIR"
            )
        return None
    saved = checkpoints.newest()
    chosen = share_text(None if saved is None else str(saved.iteration))
    if chosen is None:
        if checkpoints.paths():
            raise UserError(
                f"none of the checkpoints in {checkpoints.folder} can be read (the log says why): "
                "move them away to start anew"
            )
        logger.info("no checkpoint below %s: starting anew", checkpoints.folder)
        return None
    if saved is None or str(saved.iteration) != chosen:
        raise UserError(
            f"process {process_rank()} cannot read checkpoint {chosen} in {checkpoints.folder}: "
            "OUTPUT_DIR must be a folder that all machines share"
        )
    if saved.iteration > num_iterations:
        raise UserError(
            f"the checkpoint {checkpoints.path(saved.iteration)} is beyond SOLVER.MAX_ITER "
            f"{num_iterations}: raise it, or start another run in another OUTPUT_DIR"
        )
    logger.info("going on after iteration %s", chosen)
    return saved


def choose_seed(configured: int, saved: Checkpoint | None) -> int:
    """The configured seed, that of the run that is resumed, or a new one; all processes agree."""
    if configured >= 0:
        return configured
    kept = None if saved is None else saved.about.get("seed")
    chosen = share_text(kept or str(secrets.randbits(31)))
    assert chosen is not None, "the main process has a seed to share"
    logger.info("SEED is %d: using %s", configured, chosen)
    return int(chosen)


def _build_writers(
    cfg: CfgNode, folder: Path, start: int, wandb_project: str | None
) -> list[Writer]:
    writers: list[Writer] = [
        JsonLines(folder / "metrics.jsonl", resume_at=start),
        TensorBoard(folder / "tensorboard", resume_at=start),
    ]
    if wandb_project is not None:
        writers.append(WeightsAndBiases(folder, project=wandb_project, config=cfg, resume_at=start))
    return writers
