"""Help texts of commands, from their docstrings."""

import inspect
from collections.abc import Callable
from typing import Any

from rich.markup import escape


def help_of(command: Callable[..., Any] | None) -> str | None:
    """Returns a command's docstring as Typer's help; None if there is none.

    Typer keeps the line breaks of all paragraphs but the first, and reads brackets as markup.
    Here, a paragraph becomes one line, which the terminal wraps, unless it is indented (examples
    of files), and brackets are text.
    """
    if command is None or command.__doc__ is None:
        return None
    paragraphs = inspect.cleandoc(command.__doc__).split("\n\n")
    return escape(
        "\n\n".join(
            text if text.startswith(" ") else text.replace("\n", " ") for text in paragraphs
        )
    )
