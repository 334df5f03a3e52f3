"""Hooks after each iteration: checkpoints, stop signals, evaluation, metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from frozenseg.runtime.distributed import agreed_to_stop
from frozenseg.runtime.progress import peak_memory_gib
from frozenseg.runtime.signals import REQUEUE_EXIT_CODE, StopRequest
from frozenseg.training.metric_writers import JsonLines, OptionalWriter

METRICS = "metrics.jsonl"
PERIOD = 20  # iterations over which metrics are averaged


class SaveAndStop(HookBase):
    """Saves at the period, before evaluations, at the end, and when the run is asked to stop."""

    def __init__(self, *, period: int, evaluation_period: int = 0) -> None:
        self.periods = [each for each in (period, evaluation_period) if each > 0]
        self.stop = StopRequest()

    def before_train(self) -> None:
        self.stop.__enter__()

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        due = iteration == self.trainer.max_iter or any(iteration % n == 0 for n in self.periods)
        self.trainer.stopped = agreed_to_stop(
            self.stop.requested, iteration=iteration, due=due, device=self.trainer.parts.device
        )
        if self.trainer.stopped or due:
            self.trainer.save(iteration)
        if self.trainer.stopped:
            raise SystemExit(REQUEUE_EXIT_CODE)

    def after_train(self) -> None:
        self.stop.__exit__()


class Evaluation(EvalHook):
    """Detectron2's hook, which also repeats an evaluation during which the run was stopped."""

    def before_train(self) -> None:
        start = self.trainer.start_iter
        if self._period > 0 and 0 < start < self.trainer.max_iter and start % self._period == 0:
            self._do_eval()


class WriteMetrics(HookBase):
    """Writes ``metrics.jsonl``, in addition to TensorBoard's files and Detectron2's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: OptionalWriter | None = None
        self.begun = 0  # iteration before the window of the next line

    def before_train(self) -> None:
        self.begun = self.trainer.start_iter
        if comm.is_main_process():
            self.lines = OptionalWriter(
                "metrics", lambda: JsonLines(self.path, resume_at=self.begun)
            )

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        if iteration % PERIOD and iteration != self.trainer.max_iter:
            return
        # Detectron2 loses the losses before a stop, so an incomplete window is not written
        whole = self.begun % PERIOD == 0
        if self.lines is not None and whole:
            self.lines.write(iteration, self._numbers(iteration - self.begun))
        self.begun = iteration

    def write_results(self, results: Mapping[str, Any] | None) -> None:
        """Writes the metrics of an evaluation after a save, as the native engine names them."""
        if self.lines is not None and results:
            self.lines.write(self.trainer.saved_at, flatten_results_dict(results))

    def _numbers(self, window: int) -> dict[str, float]:
        histories = self.trainer.storage.histories()
        losses = {
            name: history.avg(window) for name, history in histories.items() if "loss" in name
        }
        optimizer = self.trainer.optimizer
        numbers = {
            **losses,
            "gradient_norm": optimizer.grad_norm.item(),
            "lr": max(group["lr"] for group in optimizer.param_groups),
            "memory_gib": peak_memory_gib(self.trainer.parts.device),
        }
        if "time" not in histories:  # Detectron2 does not measure the first iterations
            return numbers
        seconds = histories["time"].avg(window)
        left = self.trainer.max_iter - self.trainer.iter - 1
        return numbers | {
            "seconds_per_iteration": seconds,
            "data_wait_share": histories["data_time"].avg(window) / seconds,
            "images_per_second": self.trainer.settings.batch_size / seconds,
            "eta_seconds": seconds * left,
        }
