"""The training loop: fetch, step, look, save."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from frozenseg.engine.checkpoint import CheckpointFolder
from frozenseg.engine.distributed import (
    any_process,
    is_distributed,
    is_main_process,
    num_processes,
    wait_for_all,
)
from frozenseg.engine.metrics import DeviceMean, Writer, write_all
from frozenseg.engine.optimizer import set_learning_rate
from frozenseg.engine.progress import ProgressBar, StepClock, peak_memory_gib, summary_line
from frozenseg.engine.schedule import Schedule
from frozenseg.engine.snapshot import take_snapshot
from frozenseg.engine.step import Batch, TrainStep
from frozenseg.engine.stop import StopRequest

logger = logging.getLogger(__name__)

VOTE_PERIOD = 5  # iterations between questions to all processes whether to stop


class Trainer:
    """Runs updates from ``start`` to ``num_iterations``, writing down what happens.

    Args:
        batches: without end; each is this process's part of a batch.
        accumulate: how many of them make one update.
        evaluate: called with the iteration every ``evaluation_period`` updates (0: never); its
            numbers are written beside the others.
        about: what the weights belong to, stored with them.
        log_period: updates over which numbers are averaged before they are written.
    """

    def __init__(
        self,
        *,
        step: TrainStep,
        batches: Iterator[Batch],
        schedule: Schedule,
        num_iterations: int,
        checkpoints: CheckpointFolder,
        writers: Sequence[Writer] = (),
        about: Mapping[str, str] | None = None,
        start: int = 0,
        samples_seen: int = 0,
        accumulate: int = 1,
        checkpoint_period: int = 5000,
        log_period: int = 20,
        evaluation_period: int = 0,
        evaluate: Callable[[int], Mapping[str, float]] | None = None,
    ) -> None:
        self.step, self.batches, self.schedule = step, batches, schedule
        self.num_iterations, self.iteration, self.samples_seen = num_iterations, start, samples_seen
        self.checkpoints, self.writers, self.about = checkpoints, writers, about or {}
        self.accumulate = accumulate
        self.checkpoint_period, self.log_period = checkpoint_period, log_period
        self.evaluation_period, self.evaluate = evaluation_period, evaluate
        self._means, self._clock = DeviceMean(), StepClock()
        self._images_per_update = 0
        self._saved_at = start

    def run(self, stop: StopRequest | None = None) -> bool:
        """Trains; whether the end was reached: a run that is asked to stop saves itself first.

        Raises:
            Diverged: a loss or a gradient is not finite; the last checkpoint is sound.
        """
        self.step.model.train()
        shown = is_main_process()
        with ProgressBar(total=self.num_iterations, start=self.iteration, shown=shown) as bar:
            while self.iteration < self.num_iterations:
                self._update()
                bar.advance()
                if self._due(self.log_period):
                    bar.note(self._log())
                stopping = self._agreed(stop is not None and stop.requested)
                if stopping or self._due(self.checkpoint_period):
                    self._save()
                if stopping:
                    break
                self._evaluate()
        return self.iteration == self.num_iterations

    def _update(self) -> None:
        with self._clock.waiting():
            batches = [next(self.batches) for _ in range(self.accumulate)]
        set_learning_rate(self.step.optimizer, self.schedule(self.iteration))
        self._means.add(self.step(batches))
        self._clock.tick()
        self.iteration += 1
        num_images = sum(len(batch.images) for batch in batches) * num_processes()
        self.samples_seen += num_images
        self._images_per_update = num_images

    def _due(self, period: int) -> bool:
        """Every ``period`` iterations and at the end."""
        last = self.iteration == self.num_iterations
        return last or (period > 0 and self.iteration % period == 0)

    def _agreed(self, requested: bool) -> bool:
        """Whether any process was asked to stop; all get the same answer at the same iteration."""
        if is_distributed() and self.iteration % VOTE_PERIOD:
            return False
        return any_process(requested, self.step.device)

    def _log(self) -> str:
        values = {**self._means.read(), **self._own_numbers()}
        if is_main_process():
            write_all(self.writers, self.iteration, values)
            logger.info(summary_line(self.iteration, self.num_iterations, values))
        return f"loss {values['total_loss']:.2f}, {values['images_per_second']:.1f} images/s"

    def _own_numbers(self) -> dict[str, float]:
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
        snapshot = take_snapshot(
            self.step,
            iteration=self.iteration,
            samples_seen=self.samples_seen,
            about=self.about,
        )
        if is_main_process():
            logger.info("saved %s", self.checkpoints.save(snapshot))
        self._saved_at = self.iteration
        wait_for_all()

    def _evaluate(self) -> None:
        if self.evaluate is None or not self.evaluation_period:
            return
        if self.iteration % self.evaluation_period or self.iteration == self.num_iterations:
            return
        values = self.evaluate(self.iteration)
        self.step.model.train()
        if is_main_process():
            write_all(self.writers, self.iteration, values)
        self._clock.read(images_per_update=1, updates_left=0)  # its time is not the training's
