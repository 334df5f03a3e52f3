"""The ``frozenseg`` command: its subcommands and its error handling.

User errors print one sentence to standard error and exit with status 2; bugs keep their traceback.
"""

import errno
import logging
import os
from typing import Annotated

import typer
from rich.logging import RichHandler
from typer.core import TyperGroup

import frozenseg
from frozenseg.cli import datasets, figure, vocabulary, weights
from frozenseg.cli.adapt_clip import adapt_clip
from frozenseg.cli.benchmark import benchmark
from frozenseg.cli.console import ShownFormatter, accept_any_text, errors, say_error
from frozenseg.cli.convert import convert
from frozenseg.cli.demo import demo
from frozenseg.cli.doctor import doctor
from frozenseg.cli.evaluate import evaluate
from frozenseg.cli.export import export
from frozenseg.cli.help_text import help_of
from frozenseg.cli.mine import mine
from frozenseg.cli.reproduce import reproduce
from frozenseg.cli.sam_masks import sam_masks
from frozenseg.cli.segment import segment
from frozenseg.cli.summary import summary
from frozenseg.cli.train import train
from frozenseg.cli.web import web
from frozenseg.errors import UserError
from frozenseg.runtime.memory import ADVICE, is_out_of_memory
from frozenseg.runtime.quick_exit import quick_exit

EXIT_STATUSES = (
    "Exit status: 0 success; 1 a check found problems, or the program failed; 2 a user error, "
    "explained in one sentence; 75 stopped after saving (train); 130 interrupted."
)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Commands(TyperGroup):
    """Prints user errors of all subcommands as one sentence."""

    def invoke(self, ctx: typer.Context) -> object:
        try:
            return super().invoke(ctx)
        except (UserError, OSError, MemoryError, RuntimeError) as error:
            sentence = _explain(error)
            if sentence is None or ctx.params.get("debug"):
                raise
            say_error(sentence)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"frozenseg {frozenseg.__version__}")
        raise typer.Exit


@app.callback(epilog=EXIT_STATUSES)
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_say_version
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything; show tracebacks of user errors.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use cached files only; download nothing.")
    ] = False,
) -> None:
    """Segment any image with any class names: panoptic, semantic and instance.

    Example: frozenseg segment cat.jpg --words "cat, kitten; sofa"
    """
    accept_any_text()
    if offline:
        os.environ["FROZENSEG_OFFLINE"] = "1"
    handler = RichHandler(console=errors, show_path=debug, show_time=debug)
    handler.setFormatter(ShownFormatter("%(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])


def _complete_help(group: typer.Typer) -> None:
    """Sets the help of every command from its docstring; all end with the exit statuses."""
    for command in group.registered_commands:
        command.help = help_of(command.callback)
        command.epilog = EXIT_STATUSES
    for subgroup in group.registered_groups:
        subgroup.epilog = EXIT_STATUSES
        if subgroup.typer_instance is not None:
            _complete_help(subgroup.typer_instance)


app.command()(segment)
app.command()(web)
app.command()(demo)
app.command()(evaluate)
app.command()(train)
app.command()(doctor)
app.command()(sam_masks)
app.command()(mine)
app.command()(adapt_clip)
app.command()(benchmark)
app.command()(reproduce)
app.command()(convert)
app.command()(export)
app.command()(summary)
app.add_typer(datasets.app, name="datasets")
app.add_typer(figure.app, name="figure")
app.add_typer(vocabulary.app, name="vocabulary")
app.add_typer(weights.app, name="weights")

_complete_help(app)


def main() -> None:
    """The console entry point."""
    with quick_exit():
        app(prog_name="frozenseg")


def _explain(error: Exception) -> str | None:
    """A sentence for the user, or None if the error is a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; give another path, or change its permissions"
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return f"{error.strerror}: free disk space, or choose another --output"
    if is_out_of_memory(error):
        return f"there is not enough memory: {ADVICE}"
    return None
