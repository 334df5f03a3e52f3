"""Measures stages beside their baselines: in turn, in one process, CPU seconds beside wall."""

import ctypes
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from rich.table import Table
from torch import Tensor

from frozenseg.ops.ms_deform_attn import implementation

PEAK_RESET = Path("/proc/self/clear_refs")  # of Linux: 5 makes the present memory the peak
STATUS = Path("/proc/self/status")
KIB_PER_MIB = 1024

Result = TypeVar("Result")


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Returns the largest difference, relative to the largest value."""
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()


def share_of_others(found: Tensor, expected: Tensor) -> float:
    """Returns the share of labels that differ."""
    return (found != expected).double().mean().item()


class Stage(NamedTuple):
    """A step of the pipeline as it is shipped, and a slower way to the same result."""

    name: str
    baseline_name: str
    baseline: Callable[[], Tensor]
    shipped: Callable[[], Tensor]
    compare: Callable[[Tensor, Tensor], float] = largest_difference


class Way(NamedTuple):
    """Medians of one way to compute a stage."""

    cpu_seconds: float  # of all threads together
    wall_seconds: float
    memory_mib: float | None  # beyond what was held before; None where the system does not tell


class Figures(NamedTuple):
    """The measurements of a stage."""

    stage: str
    baseline_name: str
    baseline: Way
    shipped: Way
    difference: float  # of the results: the largest relative one, or the share of other labels

    @property
    def ratio(self) -> float:
        return self.baseline.cpu_seconds / self.shipped.cpu_seconds


@torch.inference_mode()
def measure(stage: Stage, repeats: int) -> Figures:
    """Runs both ways in turn, so that other work on the machine slows both."""
    runs = [(run_once(stage.baseline), run_once(stage.shipped)) for _ in range(repeats)]
    (expected, _), (found, _) = runs[-1]
    return Figures(
        stage.name,
        stage.baseline_name,
        _medians([baseline for (_, baseline), _ in runs]),
        _medians([shipped for _, (_, shipped) in runs]),
        stage.compare(found, expected),
    )


@torch.inference_mode()
def shipped_alone(stage: Stage) -> Way:
    """Runs the shipped way once."""
    return run_once(stage.shipped)[1]


def machine() -> dict[str, Any]:
    """Returns what the figures depend on, to be stored beside them."""
    return {
        "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "deformable attention": implementation("cpu"),
    }


def record(figures: Sequence[Figures]) -> dict[str, Any]:
    """Returns machine and figures as plain values for JSON."""
    stages = [
        {
            "stage": each.stage,
            "baseline": {"name": each.baseline_name, **each.baseline._asdict()},
            "shipped": each.shipped._asdict(),
            "ratio": each.ratio,
            "difference": each.difference,
        }
        for each in figures
    ]
    return {"machine": machine(), "stages": stages}


def table(figures: Sequence[Figures]) -> Table:
    """Returns one row per stage: the baseline's figures, then ours."""
    result = Table("stage, beside its baseline", "CPU s", "wall s", "MiB", "ratio", "difference")
    for each in figures:
        before, after = _cells(each.baseline), _cells(each.shipped)
        pairs = (f"{old} > {new}" for old, new in zip(before, after, strict=True))
        title = f"{each.stage}\n  {each.baseline_name}"
        result.add_row(title, *pairs, f"{each.ratio:.2f}", f"{each.difference:.0e}")
    return result


def growth_table(sizes: Sequence[str], rows: Mapping[str, Sequence[Way]]) -> Table:
    """Returns one row per stage: CPU seconds and memory at each size."""
    result = Table("CPU s, MiB", *sizes)
    for name, ways in rows.items():
        result.add_row(name, *(f"{cpu}, {memory}" for cpu, _, memory in map(_cells, ways)))
    return result


def _cells(way: Way) -> tuple[str, str, str]:
    memory = "?" if way.memory_mib is None else f"{way.memory_mib:,.0f}"
    return f"{way.cpu_seconds:.2f}", f"{way.wall_seconds:.2f}", memory


def run_once(compute: Callable[[], Result]) -> tuple[Result, Way]:
    """Returns a result, and what it took."""
    held = _reset_peak()
    cpu, wall = time.process_time(), time.perf_counter()
    result = compute()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    memory = None if held is None else (_kib("VmHWM") - held) / KIB_PER_MIB
    return result, Way(cpu, wall, memory)


def _reset_peak() -> int | None:
    """Returns the memory held now, in KiB, from which the peak then starts."""
    _release_freed_memory()
    try:
        PEAK_RESET.write_text("5")
        return _kib("VmRSS")
    except OSError:
        return None


def _release_freed_memory() -> None:
    """Gives freed memory back to the system, as far as the C library can.

    Otherwise a way that fits into what an earlier one left would seem to need none.
    """
    if platform.system() == "Linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def _kib(name: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def _medians(ways: Sequence[Way]) -> Way:
    cpu, wall = (statistics.median(each) for each in zip(*(way[:2] for way in ways), strict=True))
    memory = [way.memory_mib for way in ways if way.memory_mib is not None]
    return Way(cpu, wall, statistics.median(memory) if memory else None)
