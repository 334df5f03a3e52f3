"""``frozenseg summary``: the parts of a configured model and their sizes."""

from typing import Annotated

import typer
from rich.table import Table

from frozenseg.cli.console import console
from frozenseg.cli.options import KeyValues
from frozenseg.io.text import markup


def summary(
    config: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A model's name, or a YAML file.", show_default=False),
    ],
    opts: KeyValues = None,
) -> None:
    """Count a model's trained and frozen parameters. Nothing is downloaded.

    A trained image encoder that the weights file contains, as in MAFT+ and OVRCOAT, has its own
    column; MODEL.BACKBONE.FREEZE False trains it.

    Example: frozenseg summary frozenseg-convnext-large
    """
    from frozenseg.analysis.speed import count_parameters
    from frozenseg.builders.trunk import trains_trunk
    from frozenseg.config import load_config, model_files

    file = model_files(config).config
    table = Table("part", title=f"{markup(config)}: parameters", title_justify="left")
    cfg = load_config(file, opts or [])
    sizes = count_parameters(cfg)
    stored = [size.part for size in sizes[:-1] if size.stored]
    for heading in ("trained", "frozen", *(["from the weights file"] if stored else [])):
        table.add_column(heading, justify="right")
    for size in sizes:
        counts = [f"{count:,}" for count in size[1 : len(table.columns)]]
        table.add_row(size.part, *counts, end_section=size == sizes[-2])
    console.print(table)
    if stored:
        console.print(f"trained before, and stored with the weights: {', '.join(stored)}")
    if trains_trunk(cfg):
        console.print("trained, and stored with the weights: CLIP image encoder, except its head")
