"""Where commands write: results to ``console``, everything else to ``errors``.

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


def say_error(sentence: str) -> None:
    """Prints one line on standard error."""
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(one_line(sentence), err=True)


def accept_any_text() -> None:
    """Lets the output streams replace characters that the terminal cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
