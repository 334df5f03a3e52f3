"""Progress and speed: a live bar on a terminal, plain log lines elsewhere."""

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True)  # shared by bar and log, which would overwrite each other


class StepClock:
    """Measures the time per update and the share of it spent waiting for data."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._waited = 0.0
        self._updates = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Encloses the wait for the next batch."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def tick(self) -> None:
        """Counts an update."""
        self._updates += 1

    def read(self, *, images_per_update: int, updates_left: int) -> dict[str, float]:
        """Returns the measurements since the last read, with the time left at this speed."""
        elapsed = time.perf_counter() - self._started
        seconds = elapsed / max(self._updates, 1)
        values = {
            "seconds_per_iteration": seconds,
            "data_wait_share": self._waited / elapsed,
            "images_per_second": images_per_update / seconds,
            "eta_seconds": seconds * updates_left,
        }
        self.__init__()
        return values


class ProgressBar:
    """A bar over iterations, shown only on a terminal.

    Args:
        total: iterations of the whole run.
        start: iterations done before.
        shown: False hides the bar.
        what: label.
    """

    def __init__(
        self, *, total: int, start: int = 0, shown: bool = True, what: str = "training"
    ) -> None:
        self._progress = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._progress.add_task(what, total=total, completed=start, note="")

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, steps: int = 1) -> None:
        self._progress.advance(self._task, steps)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)


def summary_line(iteration: int, total: int, values: Mapping[str, float]) -> str:
    """Returns a log line with loss, speed, memory and remaining time."""
    left = timedelta(seconds=round(values["eta_seconds"]))
    return (
        f"iteration {iteration}/{total}  loss {values['total_loss']:.3f}  "
        f"gradient {values['gradient_norm']:.3g}  lr {values['lr']:.3g}  "
        f"{values['seconds_per_iteration']:.3f} s/iteration "
        f"({values['data_wait_share']:.0%} waiting for data)  "
        f"{values['images_per_second']:.1f} images/s  {values['memory_gib']:.2f} GiB  {left} left"
    )


def peak_memory_gib(device: torch.device) -> float:
    """Returns the peak memory of the CUDA device, or on the CPU of this process, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
