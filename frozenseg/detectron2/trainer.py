"""The training recipe in Detectron2's training loop."""

import logging
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.utils import comm
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from frozenseg.builders.model import has_trained_parts
from frozenseg.builders.systems import fixed_notes, separate_towers, weight_notes
from frozenseg.builders.trainer import (
    CHECKPOINTS,
    check_trainable,
    choose_seed,
    images_per_step,
    saved_state,
)
from frozenseg.builders.training import build_adamw, build_schedule, training_settings
from frozenseg.builders.vocabularies import build_training_vocabulary, trained_in_this_run
from frozenseg.checkpoint.class_names import classes_note
from frozenseg.config import ConfigError
from frozenseg.detectron2.evaluation import EvaluatorsAdapter, build_evaluator
from frozenseg.detectron2.hooks import METRICS, Evaluation, SaveAndStop, WriteMetrics
from frozenseg.detectron2.loaders import SoundBatches, test_loader, train_loader
from frozenseg.detectron2.model import FrozenSeg
from frozenseg.detectron2.weights import weights_path
from frozenseg.modeling.trained import TrainedProposer
from frozenseg.pipeline.model import SegmentationModel
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
    cost_message,
    loss_message,
)
from frozenseg.training.optimizer import ClippedAdamW
from frozenseg.training.system_step import SystemTraining
from frozenseg.training.training_state import capture_state, restore_state

logger = logging.getLogger(__name__)


class TrainingParts(NamedTuple):
    """The parts with a state; the native engine's step has the same attributes."""

    model: TrainedProposer | SystemTraining
    optimizer: ClippedAdamW
    scaler: torch.amp.GradScaler
    device: torch.device


class UnscalingScaler(torch.amp.GradScaler):
    """Removes the loss scale from the gradient before the optimizer clips it."""

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        self.unscale_(optimizer)
        return super().step(optimizer, *args, **kwargs)


class Trainer(DefaultTrainer):
    """Detectron2's default trainer with this project's optimizer, schedule, data and checkpoints.

    Batches, losses, updates and checkpoints equal those of the native engine, and each engine can
    resume the other's runs.

    Raises:
        UserError: the configuration or the data set do not allow it.
        Diverged: while training, if a loss or gradient is not finite; checkpoints are not affected.
    """

    def __init__(self, cfg: CfgNode) -> None:
        if not has_trained_parts(cfg):
            raise ConfigError("this configuration has no part to train: pass --eval-only")
        check_trainable(cfg)
        self.settings = settings = training_settings(cfg)
        precision = settings.autocast
        if precision is not None:
            _needs_cuda(cfg, "SOLVER.AMP.ENABLED is True")
        if comm.get_world_size() > 1:
            _needs_cuda(cfg, f"the run has {comm.get_world_size()} processes")
        images_per_step(settings.batch_size, accumulate=1)
        seed = choose_seed(settings.seed, None)
        seed_everything(seed)
        self.metrics = WriteMetrics(settings.folder / METRICS)
        super().__init__(_with_seed(cfg, seed))
        seed_everything(seed + 1 + comm.get_rank())  # loss points differ between processes
        self.scaler = UnscalingScaler("cuda", enabled=precision is torch.float16)
        if precision is not None:
            self._trainer.precision, self._trainer.grad_scaler = precision, self.scaler
        self.checkpoints = CheckpointFolder(settings.folder / CHECKPOINTS)
        self.samples_before = 0  # samples seen before this process resumed
        self.saved_at = 0  # the iteration of the newest checkpoint
        self.stopped = False  # by a stop signal

    @property
    def parts(self) -> TrainingParts:
        """The parts that checkpoints store."""
        model: FrozenSeg = getattr(self.model, "module", self.model)
        return TrainingParts(model.network, self.optimizer, self.scaler, model.device)

    @property
    def system(self) -> SegmentationModel:
        """The whole model."""
        model: FrozenSeg = getattr(self.model, "module", self.model)
        return model.segmenter.model

    @property
    def training(self) -> SystemTraining | None:
        """The training of a system that computes its own losses; None: the proposer is trained."""
        network = self.parts.model
        return None if isinstance(network, TrainedProposer) else network

    def resume_or_load(self, resume: bool = True) -> None:
        """Resumes from the newest undamaged checkpoint; ``build_model`` loads ``MODEL.WEIGHTS``.

        Raises:
            UserError: the folder holds checkpoints of another run, or of other towers.
        """
        saved = saved_state(
            self.checkpoints, resume=resume, num_iterations=self.settings.num_iterations
        )
        if saved is None:
            return
        source = str(self.checkpoints.folder)
        system, training = self.system, self.training
        check_same_towers(saved.about, fixed_notes(system, training), source=source)
        restore_state(self.parts, saved, towers=separate_towers(system, training))
        self.cfg = _with_seed(self.cfg, choose_seed(self.settings.seed, saved))
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
            raise Diverged(cost_message(error, batches.names)) from error
        latest = self.storage.latest().items()
        losses = {name: value for name, (value, _) in latest if "loss" in name}
        if losses.get("total_loss", 0.0) > MAX_LOSS:
            raise Diverged(loss_message(losses, batches.names))
        # Detectron2 has just synchronised with the host, so this check is cheap
        confirm_update(self.parts.model, self.optimizer, self.scaler, batches.names)

    def save(self, iteration: int) -> None:
        """Writes a checkpoint after ``iteration`` updates. Collective."""
        seen = (iteration - self.start_iter) * self.settings.batch_size
        checkpoint = capture_state(
            self.parts,
            iteration=iteration,
            samples_seen=self.samples_before + seen,
            about={
                **weight_notes(self.system, self.training),
                **classes_note(build_training_vocabulary(self.cfg)),
                "seed": str(self.cfg.SEED),
            },
            towers=separate_towers(self.system, self.training),
        )
        if comm.is_main_process():
            path = self.checkpoints.save(checkpoint)
            logger.info("saved %s", path)
            if iteration == self.max_iter:
                publish_weights(path, self.settings.folder / FINAL_WEIGHTS)
        self.saved_at = iteration
        comm.synchronize()

    def evaluate(self) -> dict[str, Any]:
        """Runs ``test`` after a save, so that a signal can end the process immediately."""
        if self.stopped:
            return {}
        with exit_on_signal():
            self._last_eval_results = self.test(trained_in_this_run(self.cfg), self.model)
        self.metrics.write_results(self._last_eval_results)
        return self._last_eval_results

    def build_hooks(self) -> list[HookBase]:
        period = self.settings.evaluation_period
        own: list[HookBase] = [
            SaveAndStop(period=self.settings.checkpoint_period, evaluation_period=period),
            Evaluation(period, self.evaluate),
        ]
        kept: list[HookBase] = []
        for hook in super().build_hooks():
            if isinstance(hook, hooks.EvalHook):
                kept += own
            elif not isinstance(hook, hooks.PeriodicCheckpointer):
                kept.append(hook)
        # after the timer, before the scheduler sets the next learning rate
        kept.insert(1, self.metrics)
        return kept

    @classmethod
    def build_model(cls, cfg: CfgNode, *, for_training: bool = True) -> FrozenSeg:
        """Builds the model and loads ``MODEL.WEIGHTS`` before other objects use its parameters.

        Args:
            cfg: the configuration.
            for_training: weights of a part that will be trained may be missing in the file.
        """
        model = super().build_model(cfg)
        if cfg.MODEL.WEIGHTS:
            model.load_weights(weights_path(cfg.MODEL.WEIGHTS), for_training=for_training)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: FrozenSeg) -> ClippedAdamW:
        model.start_training()  # only trainings have an optimizer
        assert isinstance(model.network, nn.Module), "both kinds are modules"
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
            f"{why}, which Detectron2 supports on CUDA only, and MODEL.DEVICE is "
            f"{cfg.MODEL.DEVICE}: change one of the two, or choose --engine native"
        )


def _with_seed(cfg: CfgNode, seed: int) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SEED = seed
    cfg.freeze()
    return cfg
