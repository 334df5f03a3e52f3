"""Where commands write: results to ``console``, everything else to ``errors``."""

import typer
from rich.console import Console

console = Console()
errors = Console(stderr=True)


def say_error(sentence: str) -> None:
    """One line on standard error, however it was broken."""
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(" ".join(sentence.split()), err=True)
