"""Output of the commands: results go to ``console``, everything else to ``errors``.

Names from files and users reach both. Control characters in them are shown, never sent.
"""

import logging
import sys
from collections.abc import Iterable

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from frozenseg.io.text import one_line, shown


class SafeConsole(Console):
    """A console that shows control characters of the text that it prints.

    Its own cursor movements and colours are not text. Markup in names is up to the caller: see
    ``frozenseg.io.text.markup``.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(shown(segment.text, keep="\n"), segment.style)


class ShownFormatter(logging.Formatter):
    """Shows control characters in log messages."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record), keep="\n\t")


console = SafeConsole()
errors = SafeConsole(stderr=True)


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
    typer.echo(one_line(sentence), err=True)


def accept_any_text() -> None:
    """Lets the output streams replace characters that the terminal cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
