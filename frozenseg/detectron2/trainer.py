"""The recipe in Detectron2's training loop."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.utils import comm
from torch.optim.lr_scheduler import LambdaLR

from frozenseg.builders.trainer import choose_seed, saved_state, share_of_batch
from frozenseg.builders.training import autocast_type, build_adamw, build_schedule, check_numbers
from frozenseg.builders.vocabularies import build_training_vocabulary, trained_in_this_run
from frozenseg.checkpoint.class_names import classes_note
from frozenseg.checkpoint.weights import tower_notes
from frozenseg.config import ConfigError
from frozenseg.detectron2.evaluation import EvaluatorsAdapter, build_evaluator
from frozenseg.detectron2.hooks import METRICS, Evaluation, SaveAndStop, WriteMetrics
from frozenseg.detectron2.loaders import SoundBatches, test_loader, train_loader
from frozenseg.detectron2.model import FrozenSeg
from frozenseg.detectron2.weights import weights_path
from frozenseg.modeling.frozenseg import FrozenSeg as Network
from frozenseg.runtime.random_state import seed_everything
from frozenseg.runtime.signals import exit_on_signal
from frozenseg.training.checkpoints import (
    FINAL_WEIGHTS,
    CheckpointFolder,
    check_same_towers,
    publish_weights,
)
from frozenseg.training.divergence import (
    MAX_LOSS,
    Diverged,
    confirm_update,
    explain_error,
    explain_losses,
)
from frozenseg.training.optimizer import ClippedAdamW
from frozenseg.training.training_state import capture_state, restore_state

logger = logging.getLogger(__name__)


class TrainingParts(NamedTuple):
    """What a checkpoint is taken of and restored to; the native engine's step has the same."""

    model: Network
    optimizer: ClippedAdamW
    scaler: torch.amp.GradScaler
    device: torch.device


class UnscalingScaler(torch.amp.GradScaler):
    """Takes the loss scale off the gradient before the optimizer clips it."""

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        self.unscale_(optimizer)
        return super().step(optimizer, *args, **kwargs)


class Trainer(DefaultTrainer):
    """Detectron2's default trainer with this project's optimizer, schedule, data and checkpoints.

    Batches, losses and updates are those of the native engine, and so are the checkpoints below
    ``OUTPUT_DIR``: either engine goes on from the other's.

    Raises:
        UserError: the configuration or the data set do not allow it.
        Diverged: while training, a loss or a gradient is not finite; the last checkpoint is sound.
    """

    def __init__(self, cfg: CfgNode) -> None:
        precision = autocast_type(cfg)
        if precision is not None:
            _needs_cuda(cfg, "SOLVER.AMP.ENABLED is True")
        if comm.get_world_size() > 1:
            _needs_cuda(cfg, f"the run has {comm.get_world_size()} processes")
        check_numbers(cfg)
        share_of_batch(cfg.SOLVER.IMS_PER_BATCH, accumulate=1)
        self.configured_seed = cfg.SEED
        seed = choose_seed(cfg.SEED, None)
        seed_everything(seed)
        self.metrics = WriteMetrics(Path(cfg.OUTPUT_DIR) / METRICS)
        super().__init__(_with_seed(cfg, seed))
        seed_everything(seed + 1 + comm.get_rank())  # points are drawn anew in each process
        self.scaler = UnscalingScaler("cuda", enabled=precision is torch.float16)
        if precision is not None:
            self._trainer.precision, self._trainer.grad_scaler = precision, self.scaler
        self.checkpoints = CheckpointFolder(Path(cfg.OUTPUT_DIR) / "checkpoints")
        self.samples_before = 0  # seen in the part of the run that a checkpoint holds
        self.saved_at = 0  # the iteration of the newest checkpoint
        self.stopped = False  # because it was asked to

    @property
    def parts(self) -> TrainingParts:
        """What checkpoints are taken of."""
        model: FrozenSeg = getattr(self.model, "module", self.model)
        return TrainingParts(model.network, self.optimizer, self.scaler, model.device)

    def resume_or_load(self, resume: bool = True) -> None:
        """Goes on from the newest sound checkpoint; ``build_model`` has loaded ``MODEL.WEIGHTS``.

        Raises:
            UserError: there are checkpoints of another run; or this one's belong to other towers.
        """
        saved = saved_state(
            self.checkpoints, resume=resume, num_iterations=self.cfg.SOLVER.MAX_ITER
        )
        if saved is None:
            return
        source = str(self.checkpoints.folder)
        check_same_towers(saved.about, tower_notes(self.parts.model), source=source)
        restore_state(self.parts, saved)
        self.cfg = _with_seed(self.cfg, choose_seed(self.configured_seed, saved))
        self.start_iter = self.iter = saved.iteration
        self.saved_at = saved.iteration
        self.samples_before = saved.numbers["samples_seen"]
        self.scheduler = self.build_lr_scheduler(self.cfg, self.optimizer, start=saved.iteration)
        self._trainer.reset_data_loader(
            lambda: self.build_train_loader(self.cfg, start=self.samples_before)
        )

    def run_step(self) -> None:
        batches: SoundBatches = self._trainer.data_loader
        try:
            super().run_step()
        except FloatingPointError as error:  # before the update, by the matcher or Detectron2
            raise Diverged(explain_error(error, batches.names)) from error
        latest = self.storage.latest().items()
        losses = {name: value for name, (value, _) in latest if "loss" in name}
        if losses.get("total_loss", 0.0) > MAX_LOSS:
            raise Diverged(explain_losses(losses, batches.names))
        # Detectron2 has just made the host wait for the losses, so that this look costs little
        confirm_update(self.parts.model, self.optimizer, self.scaler, batches.names)

    def save(self, iteration: int) -> None:
        """Writes a checkpoint after this many updates; every process must come here."""
        seen = (iteration - self.start_iter) * self.cfg.SOLVER.IMS_PER_BATCH
        snapshot = capture_state(
            self.parts,
            iteration=iteration,
            samples_seen=self.samples_before + seen,
            about={
                **tower_notes(self.parts.model),
                **classes_note(build_training_vocabulary(self.cfg)),
                "seed": str(self.cfg.SEED),
            },
        )
        if comm.is_main_process():
            path = self.checkpoints.save(snapshot)
            logger.info("saved %s", path)
            if iteration == self.max_iter:
                publish_weights(path, Path(self.cfg.OUTPUT_DIR) / FINAL_WEIGHTS)
        self.saved_at = iteration
        comm.synchronize()

    def evaluate(self) -> dict[str, Any]:
        """What ``test`` finds; a signal ends the process at once, for all that matters is saved."""
        if self.stopped:
            return {}
        with exit_on_signal():
            self._last_eval_results = self.test(trained_in_this_run(self.cfg), self.model)
        self.metrics.write_results(self._last_eval_results)
        return self._last_eval_results

    def build_hooks(self) -> list[HookBase]:
        period = self.cfg.TEST.EVAL_PERIOD
        own: list[HookBase] = [
            SaveAndStop(period=self.cfg.SOLVER.CHECKPOINT_PERIOD, evaluation_period=period),
            Evaluation(period, self.evaluate),
        ]
        kept: list[HookBase] = []
        for hook in super().build_hooks():
            if isinstance(hook, hooks.EvalHook):
                kept += own
            elif not isinstance(hook, hooks.PeriodicCheckpointer):
                kept.append(hook)
        # after the timer, before the next iteration's learning rate is set
        kept.insert(1, self.metrics)
        return kept

    @classmethod
    def build_model(cls, cfg: CfgNode) -> FrozenSeg:
        """The model with ``MODEL.WEIGHTS``, if set: before anything holds on to its parameters."""
        model = super().build_model(cfg)
        if cfg.MODEL.WEIGHTS:
            model.load_weights(weights_path(cfg.MODEL.WEIGHTS))
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: FrozenSeg) -> ClippedAdamW:
        return build_adamw(cfg, model.network)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer, *, start: int = 0
    ) -> LambdaLR:
        return LambdaLR(optimizer, build_schedule(cfg), last_epoch=start - 1)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, *, start: int = 0) -> SoundBatches:
        return train_loader(cfg, seed=choose_seed(cfg.SEED, None), start=start)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> SoundBatches:
        return test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> EvaluatorsAdapter:
        return build_evaluator(cfg, dataset_name)


def _needs_cuda(cfg: CfgNode, why: str) -> None:
    if not (torch.cuda.is_available() and cfg.MODEL.DEVICE.startswith("cuda")):
        raise ConfigError(
            f"{why}, which Detectron2 can do on CUDA alone, and MODEL.DEVICE is "
            f"{cfg.MODEL.DEVICE}: change one of the two, or choose --engine native"
        )


def _with_seed(cfg: CfgNode, seed: int) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SEED = seed
    cfg.freeze()
    return cfg
