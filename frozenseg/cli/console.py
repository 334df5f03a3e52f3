"""Output of the commands: results go to ``console``, everything else to ``errors``."""

import typer
from rich.console import Console

console = Console()
errors = Console(stderr=True)


def print_line(text: str) -> None:
    """Prints text to standard output as it is: no markup, no colours, no line breaks added."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def say_error(sentence: str) -> None:
    """Prints an error as one line on standard error."""
    _say("error", typer.colors.RED, sentence)


def say_warning(sentence: str) -> None:
    """Prints a warning as one line on standard error."""
    _say("warning", typer.colors.YELLOW, sentence)


def _say(kind: str, color: str, sentence: str) -> None:
    typer.secho(f"{kind}: ", fg=color, bold=True, nl=False, err=True)
    typer.echo(" ".join(sentence.split()), err=True)
