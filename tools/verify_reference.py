"""Compares this implementation with recorded outputs of the official one.

    python tools/verify_reference.py tests/golden

The folder contains pairs of files: a .json describes a run, an .npz contains its outputs. The
largest absolute and relative difference of every known array is printed and checked against a
tolerance. Arrays that are not compared, such as a check's own inputs, are listed with the reason.
Exits with status 1 if a check fails or if there is nothing to compare.
"""

import gzip
import json
import logging
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from reference_checks.compare import Row
from reference_checks.keys import check_keys
from reference_checks.model import check_model
from reference_checks.ovseg import check_ovseg
from reference_checks.parts import (
    check_attention,
    check_criterion,
    check_panoptic_quality,
    check_sam_vit_t,
)
from rich.console import Console
from rich.table import Table

COLORS = {"pass": "green", "fail": "bold red", "not compared": "dim", "unknown": "yellow"}
Check = Callable[[Any, dict[str, np.ndarray]], list[Row]]


def verify(folder: Path) -> Iterator[tuple[str, list[Row]]]:
    """Yields the name and the rows of every description; arrays without one are unknown."""
    described = {path.name.split(".")[0] for path in folder.glob("*.json*")}
    for path in sorted(folder.glob("*.npz")):
        if path.stem not in described:
            yield path.stem, [Row(path.name, "unknown", note="no .json beside it")]
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.json.gz")]):
        name = path.name.split(".")[0]
        try:
            case, arrays = _read(path), _read_arrays(folder / f"{name}.npz")
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            yield name, [Row(name, "fail", note=f"cannot be read: {error}")]
            continue
        check = _check_for(case)
        if check is None:
            yield name, [Row(array, "unknown") for array in arrays or (path.name,)]
            continue
        try:
            yield name, check(case, arrays)
        except (ValueError, KeyError, RuntimeError) as error:  # description and arrays do not match
            yield name, [Row(name, "fail", note=f"{type(error).__name__}: {error}")]


def _check_for(case: Any) -> Check | None:
    """Selects the check by the keys of a description."""
    if not isinstance(case, dict):
        return None
    if "clip_model_config" in case.get("config", {}) and "weights" in case:
        return check_model
    signs: dict[str, Check] = {
        "state_dict": check_keys,
        "module": check_attention,
        "gt_annotations": check_panoptic_quality,
        "parameters_encoder": check_sam_vit_t,
        "one_class_demo_names": check_ovseg,
    }
    for sign, check in signs.items():
        if sign in case:
            return check
    return check_criterion if "num_points" in case.get("config", {}) else None


def _read(path: Path) -> Any:
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        return dict(arrays)


def print_rows(console: Console, name: str, rows: list[Row]) -> None:
    """One table per description."""
    table = Table(title=name, title_justify="left", title_style="bold")
    for heading in ("array", "largest difference", "relative to largest value", "tolerance"):
        table.add_column(heading, justify="left" if heading == "array" else "right")
    table.add_column("")
    table.add_column("note")
    for row in rows:
        numbers = (_number(value) for value in (row.largest, row.relative, row.tolerance))
        verdict = f"[{COLORS[row.verdict]}]{row.verdict}[/]"
        table.add_row(row.name, *numbers, verdict, row.note)
    console.print(table)


def explain_not_compared(console: Console, reasons: Counter[str]) -> None:
    """One line per reason, with the number of arrays."""
    if reasons:
        console.print("not compared, because:")
    for reason, count in reasons.most_common():
        console.print(f"  {count:4} {'array' if count == 1 else 'arrays'}: {reason}", markup=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def main(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Of .json and .npz files.")
    ],
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Compare this implementation with recorded outputs of the official one."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    torch.set_num_threads(threads)
    width = None if sys.stdout.isatty() else 160
    console = Console(width=width)
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for name, rows in verify(folder):
        print_rows(console, name, rows)
        counts.update(row.verdict for row in rows)
        reasons.update(row.note for row in rows if row.verdict == "not compared")
    explain_not_compared(console, reasons)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in COLORS)
    console.print(summary)
    if not counts["pass"] and not counts["fail"]:
        console.print(f"nothing to compare in {folder}: give a folder of .json and .npz files")
    raise typer.Exit(1 if counts["fail"] or not counts["pass"] else 0)


if __name__ == "__main__":
    typer.run(main)
