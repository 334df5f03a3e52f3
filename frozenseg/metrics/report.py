"""Results where people look: a table on the screen, ``metrics.json``, one CSV per task."""

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from frozenseg.metrics.evaluator import Row


def metrics_table(metrics: Mapping[str, float], *, title: str | None = None) -> Table:
    """One row per measure, one column per group of classes; a dash where a measure is undefined."""
    cells: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in metrics.items():
        task, *group, measure = name.split("/")
        cells.setdefault((task, measure), {})["/".join(group) or "all"] = value
    groups = list(dict.fromkeys(group for row in cells.values() for group in row))
    table = Table(title=title, caption="percent")
    table.add_column("task")
    table.add_column("measure")
    for group in groups:
        table.add_column(group, justify="right")
    tasks = [task for task, _ in cells]
    for (task, measure), row, following in zip(
        cells, cells.values(), [*tasks[1:], ""], strict=True
    ):
        shown = [_shown(row[group]) if group in row else "" for group in groups]
        table.add_row(task, measure, *shown, end_section=task != following)
    return table


def write_report(
    folder: Path, metrics: Mapping[str, float], per_class: Mapping[str, Sequence[Row]]
) -> None:
    """Writes ``metrics.json`` and ``per_class_<task>.csv``; no file is ever seen half-written.

    In ``metrics.json`` keys are sorted, numbers are percent, and an undefined one is null.
    """
    folder.mkdir(parents=True, exist_ok=True)
    defined = {name: None if math.isnan(value) else value for name, value in metrics.items()}
    _write(folder / "metrics.json", json.dumps(defined, indent=2, sort_keys=True) + "\n")
    for task, rows in per_class.items():
        _write(folder / f"per_class_{task}.csv", _csv(rows))


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {
            name: "" if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
        }
        for row in rows
    )
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
