"""What happens after each iteration beside Detectron2's own hooks."""

from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm

from frozenseg.engine.distributed import any_process, is_distributed
from frozenseg.engine.metrics import JsonLines
from frozenseg.engine.progress import peak_memory_gib
from frozenseg.engine.stop import REQUEUE_EXIT_CODE, StopRequest
from frozenseg.engine.train import VOTE_PERIOD

METRICS = "metrics.jsonl"
PERIOD = 20  # iterations over which numbers are averaged


class SaveAndStop(HookBase):
    """Saves at the period, at the end, and when a scheduler or a person asks the run to stop."""

    def __init__(self, *, period: int) -> None:
        self.period = period
        self.stop = StopRequest()

    def before_train(self) -> None:
        self.stop.__enter__()

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        stopping = self._agreed(iteration)
        last = iteration == self.trainer.max_iter
        if stopping or last or (self.period > 0 and iteration % self.period == 0):
            self.trainer.save(iteration)
        if stopping and not last:
            raise SystemExit(REQUEUE_EXIT_CODE)

    def after_train(self) -> None:
        self.stop.__exit__()

    def _agreed(self, iteration: int) -> bool:
        """Whether any process was asked to stop; all get the same answer at the same iteration."""
        if is_distributed() and iteration % VOTE_PERIOD:
            return False
        return any_process(self.stop.requested, self.trainer.parts.device)


class WriteMetrics(HookBase):
    """Writes ``metrics.jsonl``; beside it are TensorBoard's files and Detectron2's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: JsonLines | None = None
        self.written = 0  # up to this iteration

    def before_train(self) -> None:
        self.written = self.trainer.start_iter
        if comm.is_main_process():
            self.lines = JsonLines(self.path, resume_at=self.written)

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        due = iteration % PERIOD == 0 or iteration == self.trainer.max_iter
        if self.lines is not None and due:
            self.lines.write(iteration, self._numbers(iteration - self.written))
            self.written = iteration

    def after_train(self) -> None:
        if self.lines is not None:
            self.lines.close()

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
        if "time" not in histories:  # Detectron2 leaves out the first iterations
            return numbers
        seconds = histories["time"].avg(window)
        return numbers | {
            "seconds_per_iteration": seconds,
            "data_wait_share": histories["data_time"].avg(window) / seconds,
            "images_per_second": self.trainer.cfg.SOLVER.IMS_PER_BATCH / seconds,
        }
