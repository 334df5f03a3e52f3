"""``frozenseg summary``: what a configuration builds, and how large each part is."""

from typing import Annotated

import typer
from rich.table import Table

from frozenseg.cli.console import console


def summary(
    config: Annotated[
        str,
        typer.Argument(help="A YAML file, one below configs/, or 'shapes'.", show_default=False),
    ],
    opts: Annotated[
        list[str] | None,
        typer.Argument(help="Keys and values that override the file's.", show_default=False),
    ] = None,
) -> None:
    """Count a model's parameters, trained and frozen. Nothing is downloaded for it.

    Example: frozenseg summary frozenseg_convnext_large.yaml
    """
    from frozenseg import BUILTIN_MODELS
    from frozenseg.analysis.parameter_summary import summarize
    from frozenseg.builders.model import frozenseg_outline
    from frozenseg.config import load_config

    file, _ = BUILTIN_MODELS.get(config, (config, None))
    table = Table("part", title=f"{config}: parameters", title_justify="left")
    for heading in ("trained", "frozen"):
        table.add_column(heading, justify="right")
    sizes = summarize(frozenseg_outline(load_config(file, opts or [])))
    for size in sizes:
        last = size == sizes[-2]
        table.add_row(size.part, f"{size.trained:,}", f"{size.frozen:,}", end_section=last)
    console.print(table)
