"""Measures a table of the paper and prints it beside the paper's values.

    python tools/reproduce.py table1 --weights frozenseg_convnext_large=FILE
    python tools/reproduce.py table4 --world shapes

On photographs, the rows with given weights are evaluated on the data sets that are on disk. In the
shapes world, every row is trained first, with several seeds. Finished parts are skipped.
"""

import json
import logging
import math
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from reproduction import ovseg_shapes, paper, photographs, shapes
from reproduction.family import FAMILY
from rich.console import Console
from rich.logging import RichHandler

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write

TABLES = {**paper.TABLES, "family": FAMILY}
Table = StrEnum("Table", sorted({*TABLES, *ovseg_shapes.TABLES}))
errors = Console(stderr=True)


class World(StrEnum):
    PHOTOGRAPHS = "photographs"
    SHAPES = "shapes"


def main(
    table: Annotated[Table, typer.Argument(help="A table of the paper.")],
    opts: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY VALUE", help="Configuration keys to override in every row."),
    ] = None,
    world: Annotated[
        World, typer.Option(help="photographs (data sets on disk) or the shapes world.")
    ] = World.PHOTOGRAPHS,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Trained weights of the rows with this name."),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", help="Shapes world; repeatable (default: 1, 2, 3)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for all results.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate only the first N images.", metavar="N", min=1)
    ] = None,
) -> None:
    """Measure a table of the paper."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=errors, show_path=False, show_level=False)],
    )
    folder = output or Path("output") / "reproduce" / world.value
    options = {"overrides": opts or [], "limit": limit}
    if world is World.SHAPES:
        text, found = in_shapes_world(table.value, seeds or [1, 2, 3], folder, **options)
    else:
        text, found = on_photographs(table.value, files_of(weights or []), folder, **options)
    with atomic_write(folder / f"{table.value}.json") as part:
        part.write_text(json.dumps(_defined(found), indent=1) + "\n", encoding="utf-8")
    with atomic_write(folder / f"{table.value}.md") as part:
        part.write_text(text + "\n", encoding="utf-8")
    Console(width=200).print(text, markup=False, highlight=False)


def on_photographs(
    name: str, weights: Mapping[str, Path], folder: Path, *, overrides: list[str], limit: int | None
) -> tuple[str, Mapping]:
    if name not in TABLES:
        raise UserError(f"{name} is a table of the shapes world: add --world shapes")
    table = TABLES[name]
    plan = photographs.plan(table, weights, overrides)
    for dataset, reason in plan.missing.items():
        errors.print(f"skipped: {dataset}: {reason}", markup=False, highlight=False)
    if not plan.evaluations:
        raise UserError("no data set of this table is on disk: see datasets/README.md")
    found = photographs.measure(plan, folder, limit=limit)
    return f"{table.caption}\n\n{photographs.beside_paper(table, found)}", found


def in_shapes_world(
    name: str, seeds: list[int], folder: Path, *, overrides: list[str], limit: int | None
) -> tuple[str, Mapping]:
    worlds = {
        **dict.fromkeys(shapes.TABLES, shapes),
        **dict.fromkeys(ovseg_shapes.TABLES, ovseg_shapes),
    }
    if name not in worlds:
        raise UserError(
            f"{name} needs --world photographs: the shapes world has {', '.join(worlds)}"
        )
    table = worlds[name].TABLES[name]
    found = worlds[name].measure(table, seeds, folder, overrides=overrides, limit=limit)
    caption = f"{table.caption}; seeds {', '.join(map(str, seeds))}"
    return f"{caption}\n\n{shapes.over_seeds(table, found)}", found


def files_of(pairs: list[str]) -> dict[str, Path]:
    """Parses NAME=FILE pairs."""
    for pair in pairs:
        if "=" not in pair:
            raise UserError(
                f"--weights {pair}: write NAME=FILE, as in frozenseg_convnext_large=FILE"
            )
    return {name: Path(file) for name, _, file in (pair.partition("=") for pair in pairs)}


def _defined(found: Any) -> Any:
    """Replaces NaN, which JSON lacks, by None."""
    if isinstance(found, Mapping):
        return {key: _defined(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_defined(value) for value in found]
    return None if math.isnan(found) else found


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(2)
