"""The training loop: fetch a batch, update, log, save, evaluate."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any, Protocol

import torch
from torch import Tensor

from frozenseg.runtime.distributed import (
    agreed_to_stop,
    gather,
    is_main_process,
    num_processes,
    wait_for_all,
)
from frozenseg.runtime.progress import ProgressBar, StepClock, peak_memory_gib, summary_line
from frozenseg.runtime.signals import StopRequest, exit_on_signal
from frozenseg.training.checkpoints import CheckpointFolder
from frozenseg.training.metric_writers import DeviceMean, Writer, write_all
from frozenseg.training.optimizer import set_learning_rate
from frozenseg.training.schedule import Schedule
from frozenseg.training.training_state import TrainedParts, capture_state

logger = logging.getLogger(__name__)


class AnyBatch(Protocol):
    """A batch of samples, as far as the loop looks into it."""

    @property
    def images(self) -> Sized: ...
    @property
    def visits(self) -> int: ...


class Step(TrainedParts, Protocol):
    """Makes one update; ``TrainStep`` describes the methods."""

    def __call__(self, batches: Sequence[Any]) -> dict[str, Tensor]: ...
    def confirm(self) -> None: ...


class Trainer:
    """Runs updates from ``start`` to ``num_iterations``, with logs, checkpoints and evaluations.

    Args:
        step: makes one update.
        batches: infinite; each is this process's part of a batch.
        schedule: of the learning rate.
        num_iterations: updates of the whole run.
        checkpoints: the folder to save to.
        writers: destinations of metrics; only the main process has some.
        about: returns the notes stored with the weights: towers, configuration, seed.
        towers: weights of towers that are stored with the trained ones.
        start: updates made before.
        samples_seen: by all processes before ``start``.
        unlogged: of the checkpoint that the run resumes from (``DeviceMean.state``).
        accumulate: batches per update.
        checkpoint_period: updates between checkpoints; 0: only at the end.
        log_period: updates over which metrics are averaged before they are written.
        evaluation_period: updates between evaluations; 0: none.
        evaluate: called with the iteration; its metrics are written with the others.
    """

    def __init__(
        self,
        *,
        step: Step,
        batches: Iterator[AnyBatch],
        schedule: Schedule,
        num_iterations: int,
        checkpoints: CheckpointFolder,
        writers: Sequence[Writer] = (),
        about: Callable[[], Mapping[str, str]] = dict,
        towers: Mapping[str, Tensor] | None = None,
        start: int = 0,
        samples_seen: int = 0,
        unlogged: Mapping[str, Any] | None = None,
        accumulate: int = 1,
        checkpoint_period: int = 5000,
        log_period: int = 20,
        evaluation_period: int = 0,
        evaluate: Callable[[int], Mapping[str, float]] | None = None,
    ) -> None:
        self.step, self.batches, self.schedule = step, batches, schedule
        self.num_iterations, self.iteration = num_iterations, start
        self.checkpoints, self.writers, self.about = checkpoints, writers, about
        self.towers, self.accumulate = towers, accumulate
        self.checkpoint_period, self.log_period = checkpoint_period, log_period
        self.evaluation_period, self.evaluate = evaluation_period, evaluate
        self._means, self._clock = DeviceMean(unlogged), StepClock()
        self._images_per_update = 0
        self._samples_before, self._visits = samples_seen, 0
        self._saved_at = start

    def run(self, stop: StopRequest | None = None) -> bool:
        """Trains, and returns True at the end or False if it was stopped after saving.

        Args:
            stop: is checked after each update; None: run to the end.

        Raises:
            Diverged: a loss or a gradient is not finite; the last checkpoint is not affected.
            UserError: a sample cannot be read or a checkpoint cannot be written.
        """
        self.step.model.train()
        shown = is_main_process()
        with ProgressBar(total=self.num_iterations, start=self.iteration, shown=shown) as bar:
            stopping = False
            if self._evaluation_due():  # a resumed run may have been stopped during it
                self._evaluate()
            while self.iteration < self.num_iterations and not stopping:
                self._update()
                bar.advance()
                if self._due(self.log_period):
                    bar.note(self._log())
                evaluating = self._evaluation_due()
                due = evaluating or self._due(self.checkpoint_period)
                stopping = agreed_to_stop(
                    stop is not None and stop.requested,
                    iteration=self.iteration,
                    due=due,
                    device=self.step.device,
                )
                if stopping or due:
                    self._save()
                if evaluating and not stopping:
                    self._evaluate()
        return not stopping

    def _update(self) -> None:
        with self._clock.waiting():
            batches = [next(self.batches) for _ in range(self.accumulate)]
        set_learning_rate(self.step.optimizer, self.schedule(self.iteration))
        self._means.add(self.step(batches))
        self._clock.tick()
        self.iteration += 1
        self._visits += sum(batch.visits for batch in batches)
        self._images_per_update = sum(len(batch.images) for batch in batches) * num_processes()

    def _due(self, period: int) -> bool:
        """Returns True every ``period`` iterations and at the end."""
        last = self.iteration == self.num_iterations
        return last or (period > 0 and self.iteration % period == 0)

    def _log(self) -> str:
        values = {**self._means.read(), **self._measurements()}
        if is_main_process():
            write_all(self.writers, self.iteration, values)
            logger.info(summary_line(self.iteration, self.num_iterations, values))
        return f"loss {values['total_loss']:.2f}, {values['images_per_second']:.1f} images/s"

    def _measurements(self) -> dict[str, float]:
        optimizer = self.step.optimizer
        norm = optimizer.grad_norm
        return {
            "gradient_norm": float("nan") if norm is None else norm.item(),
            "lr": max(group["lr"] for group in optimizer.param_groups),
            "memory_gib": peak_memory_gib(self.step.device),
            **self._clock.read(
                images_per_update=self._images_per_update,
                updates_left=self.num_iterations - self.iteration,
            ),
        }

    def _save(self) -> None:
        if self._saved_at == self.iteration:
            return
        self.step.confirm()
        checkpoint = capture_state(
            self.step,
            iteration=self.iteration,
            samples_seen=self._samples_seen(),
            unlogged=self._means.state(),
            about=self.about(),
            towers=self.towers,
        )
        if is_main_process():
            logger.info("saved %s", self.checkpoints.save(checkpoint))
        self._saved_at = self.iteration
        wait_for_all()

    def _samples_seen(self) -> int:
        """Returns the position at which the shared stream resumes, after the fastest process."""
        visits = gather(torch.tensor([self._visits]), self.step.device)
        return self._samples_before + num_processes() * int(torch.cat(visits).max())

    def _evaluation_due(self) -> bool:
        """Returns True at the period, but not at the end, which the caller evaluates."""
        if self.evaluate is None or not self.evaluation_period or not self.iteration:
            return False
        return self.iteration % self.evaluation_period == 0 and self.iteration < self.num_iterations

    def _evaluate(self) -> None:
        """Evaluates after a save, so that a signal can end the process immediately."""
        assert self.evaluate is not None, "an evaluation is due only if there is one"
        with exit_on_signal():
            values = self.evaluate(self.iteration)
        self.step.model.train()
        if is_main_process():
            write_all(self.writers, self.iteration, values)
        self._clock.read(images_per_update=1, updates_left=0)  # excludes the evaluation's time
