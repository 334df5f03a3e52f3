"""A training from its configuration, from the start or from its last checkpoint."""

import logging
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from fvcore.common.config import CfgNode

from frozenseg.builders.adapter import is_warmup
from frozenseg.builders.fingerprints import config_digest
from frozenseg.builders.model import build_model, has_trained_parts, trained_part
from frozenseg.builders.options import DEFAULT_OPTIONS, RunOptions
from frozenseg.builders.segmenter import load_model
from frozenseg.builders.systems import (
    build_system_training,
    fixed_notes,
    separate_towers,
    training_rows,
    weight_notes,
)
from frozenseg.builders.training import (
    TrainingSettings,
    annotation_to_train_on,
    build_adamw,
    build_criterion,
    build_mapper,
    build_schedule,
    training_settings,
)
from frozenseg.builders.trunk import check_trunk_keys
from frozenseg.builders.vocabularies import build_training_vocabulary
from frozenseg.checkpoint.class_names import classes_note
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
from frozenseg.towers.roles import TextEncoder
from frozenseg.training.adapter_training import AdapterTraining
from frozenseg.training.checkpoints import Checkpoint, CheckpointFolder, check_same_towers
from frozenseg.training.loader import training_batches
from frozenseg.training.metric_writers import (
    JsonLines,
    OptionalWriter,
    TensorBoard,
    WeightsAndBiases,
    Writer,
)
from frozenseg.training.step import TrainStep
from frozenseg.training.system_step import SystemStep
from frozenseg.training.trainer import Trainer
from frozenseg.training.training_state import restore_state
from frozenseg.training.trunk_training import TrunkTraining
from frozenseg.vocabulary.text_classifier import TextClassifier, embed_vocabulary

logger = logging.getLogger(__name__)

Evaluate = Callable[[SegmentationModel, int], Mapping[str, float]]
CHECKPOINTS = "checkpoints"  # subfolder of OUTPUT_DIR


class Training(NamedTuple):
    """A training that is ready to run.

    Args:
        model: whose trained part is updated.
        trainer: the loop.
    """

    model: SegmentationModel
    trainer: Trainer


def build_training(
    cfg: CfgNode,
    *,
    device: torch.device,
    options: RunOptions = DEFAULT_OPTIONS,
    evaluate: Evaluate | None = None,
) -> Training:
    """Builds a training that is ready to run. Collective.

    The seed, which a resumed run keeps, also determines the initial weights.

    Args:
        cfg: the configuration.
        device: of this process.
        options: ``resume``, ``accumulate``, ``wandb_project`` and ``skip_bad`` apply.
        evaluate: called with the model and the iteration every ``TEST.EVAL_PERIOD`` iterations.

    Raises:
        UserError: the configuration, the data set or the output folder do not allow it.
    """
    settings = training_settings(cfg)
    batch_size = images_per_step(settings.batch_size, options.accumulate)
    checkpoints = CheckpointFolder(settings.folder / CHECKPOINTS)
    saved = saved_state(checkpoints, resume=options.resume, num_iterations=settings.num_iterations)
    seed = choose_seed(settings.seed, saved)
    seed_everything(seed)
    model = _build_training_model(cfg, device)
    training = build_system_training(cfg, model)
    step = _build_step(cfg, model, training, device, settings.autocast)
    towers = separate_towers(model, training)
    seed_everything(seed + 1 + process_rank())  # loss points differ between processes
    if saved is not None:
        present = fixed_notes(model, training)
        check_same_towers(saved.about, present, source=str(checkpoints.folder))
        restore_state(step, saved, towers=towers)
    start = 0 if saved is None else saved.iteration
    samples_seen = 0 if saved is None else saved.numbers["samples_seen"]
    writers = _build_writers(cfg, settings, start, options) if is_main_process() else ()
    trainer = Trainer(
        step=step,
        batches=training_batches(
            training_samples(
                settings.data_set,
                task=annotation_to_train_on(cfg),
                skip_bad=options.skip_bad,
            ),
            augment=build_mapper(cfg),
            batch_size=batch_size,
            seed=seed,
            rank=process_rank(),
            world_size=num_processes(),
            start=samples_seen,
            num_workers=settings.num_workers,
            pin_memory=device.type == "cuda",
            skip_bad=options.skip_bad,
        ),
        schedule=build_schedule(cfg),
        num_iterations=settings.num_iterations,
        checkpoints=checkpoints,
        checkpoint_period=settings.checkpoint_period,
        writers=writers,
        about=lambda: {
            **weight_notes(model, training),
            **classes_note(build_training_vocabulary(cfg)),
            "config": config_digest(cfg),
            "seed": str(seed),
        },
        towers=towers,
        start=start,
        samples_seen=samples_seen,
        unlogged=None if saved is None else saved.numbers.get("unlogged"),
        accumulate=options.accumulate,
        evaluation_period=settings.evaluation_period,
        evaluate=None if evaluate is None else lambda done: evaluate(model, done),
    )
    return Training(model, trainer)


def check_trainable(cfg: CfgNode) -> None:
    """Raises a ``UserError`` if the configuration has nothing to train, or a warm-up to test."""
    if not has_trained_parts(cfg):
        raise UserError("this configuration has no part to train: evaluate it with --eval-only")
    check_trunk_keys(cfg)
    if is_warmup(cfg) and cfg.DATASETS.TEST:
        raise UserError(
            "MODEL.MASK_ADAPTER.TRAIN_PHASE ground_truth trains without a decoder, so there is "
            'nothing to evaluate: set DATASETS.TEST to "()"'
        )


def images_per_step(batch_size: int, accumulate: int) -> int:
    """Returns how many images one process sees at once, so that all parts make the whole batch.

    Args:
        batch_size: images per update, over all processes.
        accumulate: number of parts in which each process sees its share.

    Raises:
        UserError: the batch cannot be divided equally.
    """
    parts = num_processes() * accumulate
    if accumulate < 1 or batch_size % parts:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {batch_size}, which {num_processes()} processes with "
            f"--accumulate {accumulate} cannot share equally: change one of the three"
        )
    return batch_size // parts


def build_training_classifier(
    cfg: CfgNode, encoder: TextEncoder, device: torch.device
) -> TextClassifier:
    """Returns the text embeddings of the training classes, from the cache if they are there.

    Args:
        cfg: the configuration.
        encoder: encodes the class names.
        device: for the result.
    """
    if not is_main_process():
        wait_for_all()  # the main process embeds the class names, the others read the cache
    classifier = embed_vocabulary(
        encoder, build_training_vocabulary(cfg), cache_dir=cache_folder() / "text"
    )
    if is_main_process():
        wait_for_all()
    return classifier.to(device)


def saved_state(
    checkpoints: CheckpointFolder,
    *,
    resume: bool,
    num_iterations: int,
    limit: str = "SOLVER.MAX_ITER",
) -> Checkpoint | None:
    """Returns the checkpoint to resume from, the same in every process; None starts a run.

    Args:
        checkpoints: the run's folder.
        resume: False requires a folder without checkpoints.
        num_iterations: the end of the run.
        limit: the setting that determines it, for the message.

    Raises:
        UserError: there are checkpoints although ``resume`` is off, none of them can be read, or
            the newest is beyond the end of the run.
    """
    if not resume:
        wait_for_all()
        if checkpoints.paths():
            raise UserError(
                f"{checkpoints.folder} holds the checkpoints of another run: pass --resume to "
                "continue it, or choose another OUTPUT_DIR"
            )
        return None
    saved = checkpoints.newest()
    chosen = share_text(None if saved is None else str(saved.iteration))
    if chosen is None:
        if checkpoints.paths():
            raise UserError(
                f"none of the checkpoints in {checkpoints.folder} can be read (the log says why): "
                "move them away to start again"
            )
        logger.info("no checkpoint in %s: starting from iteration 0", checkpoints.folder)
        return None
    if saved is None or str(saved.iteration) != chosen:
        raise UserError(
            f"process {process_rank()} cannot read checkpoint {chosen} in {checkpoints.folder}: "
            "OUTPUT_DIR must be a folder that all machines share"
        )
    if saved.iteration > num_iterations:
        raise UserError(
            f"the checkpoint {checkpoints.path(saved.iteration)} is beyond {limit} "
            f"{num_iterations}: raise it, or start another run in another OUTPUT_DIR"
        )
    logger.info("resuming after iteration %s", chosen)
    return saved


def choose_seed(configured: int, saved: Checkpoint | None) -> int:
    """Returns the configured seed, else that of the resumed run, else a new one. Collective.

    Args:
        configured: ``SEED``; negative: not set.
        saved: the checkpoint that the run resumes from.
    """
    if configured >= 0:
        return configured
    kept = None if saved is None else saved.about.get("seed")
    chosen = share_text(kept or str(secrets.randbits(31)))
    assert chosen is not None, "the main process has a seed to share"
    logger.info("SEED is %d: using %s", configured, chosen)
    return int(chosen)


def _build_training_model(cfg: CfgNode, device: torch.device) -> SegmentationModel:
    """Builds the model with ``MODEL.WEIGHTS``, if set, and equal weights on every rank. Collective.

    Args:
        cfg: the configuration.
        device: of this process.

    Raises:
        UserError: the model has no part to train, or the weights do not fit.
    """
    check_trainable(cfg)
    if cfg.MODEL.WEIGHTS:
        model = load_model(cfg, cfg.MODEL.WEIGHTS, for_training=True)
    else:
        model = build_model(cfg, prompts_optional=True)
    model.to(device)
    share_weights(model.trainable_state().values())
    return model


def _build_step(
    cfg: CfgNode,
    model: SegmentationModel,
    training: AdapterTraining | TrunkTraining | None,
    device: torch.device,
    autocast: torch.dtype | None,
) -> TrainStep | SystemStep:
    rows = build_training_classifier(cfg, model.text_encoder, device)
    if training is not None:
        return SystemStep(
            model=training,
            text=training_rows(model, rows),
            optimizer=build_adamw(cfg, training),
            device=device,
            autocast=autocast,
        )
    trained = trained_part(model)
    return TrainStep(
        model=trained,
        classifier=rows,
        criterion=build_criterion(cfg),
        optimizer=build_adamw(cfg, trained),
        device=device,
        autocast=autocast,
    )


def _build_writers(
    cfg: CfgNode, settings: TrainingSettings, start: int, options: RunOptions
) -> list[Writer]:
    folder, project = settings.folder, options.wandb_project
    writers = file_writers(folder, start)
    if project is not None:
        wandb = WeightsAndBiases(folder, project=project, config=cfg, resume_at=start)
        writers.append(OptionalWriter("Weights & Biases", lambda: wandb))
    return writers


def file_writers(folder: Path, start: int) -> list[Writer]:
    """Returns the writers of metrics that need only the run's folder.

    Args:
        folder: of the run.
        start: iteration that the run continues from.
    """
    return [
        OptionalWriter("metrics", lambda: JsonLines(folder / "metrics.jsonl", resume_at=start)),
        OptionalWriter("TensorBoard", lambda: TensorBoard(folder / "tensorboard", resume_at=start)),
    ]
