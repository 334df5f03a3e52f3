#!/usr/bin/env python
"""Compares two runs: configuration, environment, losses, results.

python tools/compare_runs.py output/shapes/frozenseg output/shapes/no_injectors
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from frozenseg.errors import UserError
from frozenseg.io.documents import read_json, read_yaml_mapping
from frozenseg.runtime.run_folder import CONFIG, differences
from frozenseg.training.metric_writers import read_json_lines

METRICS = "metrics.jsonl"
SHOWN = ("total_loss", "gradient_norm", "seconds_per_iteration", "data_wait_share", "memory_gib")


class Run(NamedTuple):
    """The content of a run folder."""

    folder: Path
    config: Mapping
    environment: Mapping
    steps: dict[int, dict[str, float]]  # training metrics by iteration
    results: dict[str, float]  # by data set and measure


def read_run(folder: Path) -> Run:
    """Reads a run folder; missing files other than the configuration count as empty.

    Raises:
        UserError: there is no configuration, or a file cannot be read.
    """
    if not (folder / CONFIG).exists():
        raise UserError(f"{folder} holds no {CONFIG}: give the OUTPUT_DIR of a run")
    metrics = folder / METRICS
    return Run(
        folder=folder,
        config=_mapping(folder / CONFIG),
        environment=_without_command(_mapping(folder / "environment.json")),
        steps=_steps(metrics) if metrics.exists() else {},
        results={
            f"{path.parent.name} {measure}": value
            for path in sorted(folder.glob("inference/*/metrics.json"))
            for measure, value in _mapping(path).items()
            if value is not None
        },
    )


def _steps(path: Path) -> dict[int, dict[str, float]]:
    return {
        record["iteration"]: {k: v for k, v in record.items() if v is not None}
        for record in read_json_lines(path)
        if "total_loss" in record
    }


def _mapping(path: Path) -> dict:
    """Returns the content of a YAML or JSON file; empty if it is missing."""
    if not path.exists():
        return {}
    return read_json(path) if path.suffix == ".json" else read_yaml_mapping(path)


def _without_command(environment: dict) -> dict:
    """Drops the command, whose effect the configuration shows more clearly."""
    return {key: value for key, value in environment.items() if key != "command"}


def changed_table(title: str, before: Mapping, after: Mapping) -> Table | str:
    table = Table("key", "first", "second", title=title, title_justify="left")
    for key, old, new in differences(before, after):
        table.add_row(key, str(old), str(new))
    return table if table.row_count else f"{title}: the same"


def numbers_table(title: str, rows: Iterator[tuple[str, float, float]]) -> Table | str:
    table = Table("", "first", "second", "difference", title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, first, second in rows:
        table.add_row(name, f"{first:.4g}", f"{second:.4g}", f"{second - first:+.4g}")
    return table if table.row_count else f"{title}: nothing in common"


def training_rows(first: Run, second: Run) -> Iterator[tuple[str, float, float]]:
    """Yields means over the second half of the iterations that both runs have written."""
    common = sorted(first.steps.keys() & second.steps.keys())
    late = common[len(common) // 2 :]
    for name in SHOWN:
        values = [
            [run.steps[iteration][name] for iteration in late if name in run.steps[iteration]]
            for run in (first, second)
        ]
        if all(values):
            means = [sum(each) / len(each) for each in values]
            yield name, means[0], means[1]


def result_rows(first: Run, second: Run) -> Iterator[tuple[str, float, float]]:
    for name in first.results:
        if name in second.results:
            yield name, first.results[name], second.results[name]


class LossDifference(NamedTuple):
    """The largest relative difference of a loss between two runs."""

    relative: float  # infinite if only one run has the loss, nan without a common iteration
    name: str = ""
    iteration: int = 0

    def __str__(self) -> str:
        if math.isnan(self.relative):
            return "losses: no iteration that both have written"
        place = f"{self.name} at iteration {self.iteration}"
        if math.isinf(self.relative):
            return f"losses: only one run has {place}"
        return f"losses: differ by at most {self.relative:.2e} of their size, {place}"


def largest_loss_difference(first: Run, second: Run, *, last: int | None = None) -> LossDifference:
    """Compares all losses at the iterations that both runs have written, up to ``last``."""
    common = (n for n in first.steps.keys() & second.steps.keys() if last is None or n <= last)
    found = [
        LossDifference(
            _relative(first.steps[iteration].get(name), second.steps[iteration].get(name)),
            name,
            iteration,
        )
        for iteration in sorted(common)
        for name in sorted(first.steps[iteration].keys() | second.steps[iteration].keys())
        if "loss" in name
    ]
    return max(found, key=lambda each: each.relative, default=LossDifference(math.nan))


def _relative(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return math.inf
    return abs(one - other) / max(abs(one), abs(other), 1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compare two runs: configuration, environment, losses, results."
    )
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument(
        "--same-losses",
        type=float,
        metavar="TOLERANCE",
        help="exit with status 1 if a loss at a common iteration has a larger relative difference",
    )
    parser.add_argument("--last", type=int, metavar="N", help="compare losses up to iteration N")
    options = parser.parse_args()
    try:
        first, second = read_run(options.first), read_run(options.second)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    console = Console()
    console.print(f"first: {first.folder}\nsecond: {second.folder}", highlight=False)
    console.print(changed_table("configuration", first.config, second.config))
    console.print(changed_table("environment", first.environment, second.environment))
    console.print(numbers_table("training, second half", training_rows(first, second)))
    largest = largest_loss_difference(first, second, last=options.last)
    console.print(str(largest))
    console.print(numbers_table("results, percent", result_rows(first, second)))
    if options.same_losses is not None and not largest.relative <= options.same_losses:
        sys.exit(1)


if __name__ == "__main__":
    main()
