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
        typer.Argument(help="A model's name, or a YAML file.", show_default=False),
    ],
    opts: KeyValues = None,
) -> None:
    """Count a model's trained and frozen parameters. Nothing is downloaded.

    Example: frozenseg summary frozenseg-convnext-large
    """
    from frozenseg.analysis.speed import count_parameters
    from frozenseg.config import load_config, model_files

    file = model_files(config).config
    table = Table("part", title=f"{markup(config)}: parameters", title_justify="left")
    for heading in ("trained", "frozen"):
        table.add_column(heading, justify="right")
    cfg = load_config(file, opts or [])
    sizes = count_parameters(cfg)
    for size in sizes:
        last = size == sizes[-2]
        table.add_row(size.part, f"{size.trained:,}", f"{size.frozen:,}", end_section=last)
    console.print(table)
    if cfg.MODEL.WEIGHTS_TOWERS == "use":
        console.print("CLIP comes with the weights: its image encoder was trained, too")
