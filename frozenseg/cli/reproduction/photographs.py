"""A table of the paper, measured on the data sets that are on disk."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fvcore.common.config import CfgNode

from frozenseg.builders.evaluation import open_test_set
from frozenseg.cli.reproduction.measuring import Metrics, markdown, measured
from frozenseg.cli.reproduction.paper import SAM_MASKS, PaperTable, Row
from frozenseg.config import load_config
from frozenseg.errors import UserError

Measured = dict[str, dict[str, Metrics]]
"""Metrics by row title and data set."""


class Plan(NamedTuple):
    """The evaluations that are possible."""

    evaluations: dict[tuple[Row, str], CfgNode]  # by row and data set
    missing: dict[str, str]  # data sets that cannot be opened, with the reason


def plan(table: PaperTable, weights: Mapping[str, Path], overrides: Sequence[str] = ()) -> Plan:
    """Selects the evaluations of a table that these weights and the data sets on disk allow.

    Args:
        table: the table.
        weights: files by the rows' name of their weights.
        overrides: configuration keys and values for every row.

    Raises:
        UserError: no weights, weights that no row uses, or a missing file.
    """
    rows = [row for row in table.rows if not row.weights or row.weights in weights]
    check_weights(table, weights)
    evaluations: dict[tuple[Row, str], CfgNode] = {}
    missing: dict[str, str] = {}
    for dataset in dict.fromkeys(column.dataset for column in table.columns):
        for row in rows:
            cfg = row_config(table, row, dataset, weights, overrides)
            if dataset not in missing:
                try:
                    open_test_set(cfg, cfg.DATASETS.TEST[0])
                except UserError as error:
                    missing[dataset] = str(error)
            evaluations[row, dataset] = cfg
    there = {key: cfg for key, cfg in evaluations.items() if key[1] not in missing}
    return Plan(there, missing)


def check_weights(table: PaperTable, weights: Mapping[str, Path]) -> None:
    names = list(dict.fromkeys(row.weights for row in table.rows if row.weights))
    known = ", ".join(names)
    for name, path in weights.items():
        if name not in names:
            raise UserError(f"--weights {name}={path}: this table has rows of {known}")
        if not path.is_file():
            raise UserError(f"--weights {name}={path}: there is no such file")
    if not weights:
        raise UserError(f"nothing to measure: give --weights NAME=FILE for some of {known}")


def row_config(
    table: PaperTable,
    row: Row,
    dataset: str,
    weights: Mapping[str, Path],
    overrides: Sequence[str] = (),
) -> CfgNode:
    """The configuration of a row: model, weights, and the test sizes and tasks of the data set."""
    chosen = [*table.overrides, *row.overrides]
    if dataset in row.sam_masks_on:
        chosen += SAM_MASKS
    if row.weights:
        chosen += ["MODEL.WEIGHTS", str(weights[row.weights])]
    return load_config(row.config, [*chosen, *overrides], over=overlays(row, dataset))


def overlays(row: Row, dataset: str) -> list[str]:
    """Returns the files with the test settings of a data set.

    OVSeg has its own, and Mask-Adapter one size for all data sets.
    """
    folder = "ovseg/" if row.config.startswith("ovseg/") else ""
    files = [f"{folder}eval/{dataset}.yaml"]
    if row.config.startswith("family/mask_adapter"):
        files.append("family/eval/mask_adapter.yaml")
    return files


def measure(planned: Plan, output: Path, *, limit: int | None = None) -> Measured:
    found: Measured = {}
    for (row, dataset), cfg in planned.evaluations.items():
        folder = output / Path(row.config).stem
        metrics = measured(cfg, cfg.DATASETS.TEST[0], folder, limit=limit)
        found.setdefault(row.title, {})[dataset] = metrics
    return found


def beside_paper(table: PaperTable, found: Measured) -> str:
    """A Markdown table with one line per column of the paper's table: paper / measured.

    A dash marks values that were not measured or not printed.
    """
    rows = []
    for place, column in enumerate(table.columns):
        cells = [column.dataset, column.title]
        for row in table.rows:
            metrics = found.get(row.title, {}).get(column.dataset, {})
            paper = row.paper[place]
            cells.append(f"{_shown(paper, 1)} / {_shown(metrics.get(column.measure), 2)}")
        rows.append(cells)
    return markdown(["data set", "paper / measured", *(row.title for row in table.rows)], rows)


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
