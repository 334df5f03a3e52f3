"""How far, how fast, how long still: a live bar on a terminal, plain log lines elsewhere."""

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True)  # one for the bar and the log, so that they do not overwrite


class StepClock:
    """Measures how long updates take, and which share of that they waited for data."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._waited = 0.0
        self._updates = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for the next batch."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def tick(self) -> None:
        """After each update."""
        self._updates += 1

    def read(self, *, images_per_update: int, updates_left: int) -> dict[str, float]:
        """Since the last read; the estimate assumes that it goes on like this."""
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
    """A bar over iterations; silent unless the console is a terminal."""

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
    """One log line of the numbers that tell whether a run is well."""
    left = timedelta(seconds=round(values["eta_seconds"]))
    return (
        f"iteration {iteration}/{total}  loss {values['total_loss']:.3f}  "
        f"gradient {values['gradient_norm']:.3g}  lr {values['lr']:.3g}  "
        f"{values['seconds_per_iteration']:.3f} s/iteration "
        f"({values['data_wait_share']:.0%} waiting for data)  "
        f"{values['images_per_second']:.1f} images/s  {values['memory_gib']:.2f} GiB  {left} left"
    )


def peak_memory_gib(device: torch.device) -> float:
    """The most memory used so far: the device's, or on the CPU this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
