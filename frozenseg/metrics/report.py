"""Results for people: a table on the screen, ``metrics.json``, one CSV file per task."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from frozenseg.io.writing import write_text
from frozenseg.metrics.evaluator import Row


def metrics_table(metrics: Mapping[str, float], *, title: str | None = None) -> Table:
    """Returns one row per measure and one column per group of classes; undefined values are "-"."""
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
    """Writes ``metrics.json`` and ``per_class_<task>.csv``, each atomically.

    Args:
        folder: is created if missing.
        metrics: percentages by name; keys are sorted in the file, and nan becomes null.
        per_class: rows of classes by task.

    Raises:
        UserError: a file cannot be written.
    """
    defined = {name: None if math.isnan(value) else value for name, value in metrics.items()}
    write_text(folder / "metrics.json", json.dumps(defined, indent=2, sort_keys=True) + "\n")
    for task, rows in per_class.items():
        write_text(folder / f"per_class_{task}.csv", _csv(rows))


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
