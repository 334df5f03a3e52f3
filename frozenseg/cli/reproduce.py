"""``frozenseg reproduce``: a table of the paper, measured and printed beside its values."""

import json
import logging
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from frozenseg.cli.console import errors, print_line
from frozenseg.cli.options import KeyValues
from frozenseg.cli.reproduction import paper
from frozenseg.cli.reproduction.family import FAMILY
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write

SPEED = "table6"
TABLES = {**paper.TABLES, "family": FAMILY}
Table = StrEnum("Table", sorted({*TABLES, *paper.OVSEG_TABLES, SPEED}))


class World(StrEnum):
    PHOTOGRAPHS = "photographs"
    SHAPES = "shapes"


def reproduce(
    table: Annotated[
        Table,
        typer.Argument(metavar="TABLE", help=f"One of {', '.join(Table)}.", show_choices=False),
    ],
    opts: KeyValues = None,
    world: Annotated[
        World, typer.Option(help="photographs: the data sets on disk. shapes: the shapes world.")
    ] = World.PHOTOGRAPHS,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Trained weights of the rows with this name; may be repeated.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(
            "--seed",
            help="Seed in the shapes world; may be repeated (default: 1, 2, 3).",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for all results (default: output/reproduce/WORLD).",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Evaluate only the first N images.", metavar="N", min=1, show_default=False
        ),
    ] = None,
) -> None:
    """Measure a table of the paper and print it beside the paper's values.

    On photographs, rows whose weights are given are evaluated on the data sets found on disk;
    table6 measures parameters and speed on noise, with random weights if none are given. In the
    shapes world, every row is trained first, with several seeds. Finished parts are skipped.

    Example: frozenseg reproduce table4 --world shapes
    """
    logging.getLogger().setLevel(logging.INFO)
    folder = output or Path("output") / "reproduce" / world.value
    options = {"overrides": opts or [], "limit": limit}
    if world is World.SHAPES:
        text, found = in_shapes_world(table.value, seeds or [1, 2, 3], folder, **options)
    elif table.value == SPEED:
        text, found = speed_table(files_of(weights or []), **options)
    else:
        text, found = on_photographs(table.value, files_of(weights or []), folder, **options)
    with atomic_write(folder / f"{table.value}.json") as part:
        part.write_text(json.dumps(_defined(found), indent=1) + "\n", encoding="utf-8")
    with atomic_write(folder / f"{table.value}.md") as part:
        part.write_text(text + "\n", encoding="utf-8")
    print_line(text)


def on_photographs(
    name: str, weights: Mapping[str, Path], folder: Path, *, overrides: list[str], limit: int | None
) -> tuple[str, Mapping]:
    """Measures the rows with weights on the data sets that are on disk; Markdown and values."""
    from frozenseg.cli.reproduction import photographs

    if name not in TABLES:
        raise UserError(f"{name} is a table of the shapes world: add --world shapes")
    table = TABLES[name]
    plan = photographs.plan(table, weights, overrides)
    for dataset, reason in plan.missing.items():
        errors.print(f"skipped: {dataset}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if not plan.evaluations:
        raise UserError(
            "no data set of this table is on disk: `frozenseg datasets list` says where to get them"
        )
    found = photographs.measure(plan, folder, limit=limit)
    return _captioned(table.caption, photographs.beside_paper(table, found), limit), found


def in_shapes_world(
    name: str, seeds: list[int], folder: Path, *, overrides: list[str], limit: int | None
) -> tuple[str, Mapping]:
    """Trains and measures all rows in the shapes world; Markdown and values."""
    from frozenseg.cli.reproduction import family_shapes, ovseg_shapes, seeded, shapes

    own, paper_tables = {**ovseg_shapes.TABLES, **family_shapes.TABLES}, shapes.TABLES
    options: dict[str, Any] = {"overrides": overrides, "limit": limit}
    if name in own:
        table = own[name]
        found = seeded.measure(table, seeds, folder, **options)
    elif name in paper_tables:
        table = paper_tables[name]
        found = shapes.measure(table, seeds, folder, **options)
    else:
        known = ", ".join({**paper_tables, **own})
        raise UserError(f"{name} needs --world photographs: the shapes world has {known}")
    used = seeds[: max(map(len, found.values()))]  # fewer where seeds do not matter
    caption = f"{table.caption}; percent; seed{'s' * (len(used) > 1)} {', '.join(map(str, used))}"
    return _captioned(caption, shapes.over_seeds(table, found), limit), found


def speed_table(
    weights: Mapping[str, Path], *, overrides: list[str], limit: int | None
) -> tuple[str, Mapping]:
    """Measures Table 6, which is about speed; Markdown and values."""
    from frozenseg.cli.reproduction import speed

    with errors.status("measuring"):
        found = speed.measure_rows(weights, overrides, limit=limit)
    return f"{speed.CAPTION}\n\n{speed.beside_paper(found)}", found


def _captioned(caption: str, table: str, limit: int | None) -> str:
    """Returns a table below its caption, which says if only some images were evaluated."""
    images = "" if limit is None else f"; the first {limit} images only"
    return f"{caption}{images}\n\n{table}"


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
