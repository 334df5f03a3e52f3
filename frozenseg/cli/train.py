"""``frozenseg train``: the native engine of ``train_net.py`` from a configuration."""

from pathlib import Path
from typing import Annotated

import typer

from frozenseg.cli.options import KeyValues


def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model's name ('shapes' is the miniature model), or a YAML file.",
            show_default=False,
        ),
    ],
    opts: KeyValues = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint.")
    ] = False,
    num_gpus: Annotated[
        int, typer.Option(help="Processes on this machine, one device each.", min=1)
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the run (OUTPUT_DIR).", show_default=False),
    ] = None,
) -> None:
    """Train, then evaluate. Ctrl-C saves a checkpoint; --resume continues from it.

    Example: frozenseg train shapes -o output/mine SOLVER.MAX_ITER 2000
    """
    from frozenseg.config import model_files
    from frozenseg.runtime.signals import exit_on_signal

    file = model_files(config).config
    arguments = ["--engine", "native", "--config-file", str(file), "--num-gpus", str(num_gpus)]
    arguments += ["--resume"] if resume else []
    arguments += [] if output is None else ["--output", str(output)]
    with exit_on_signal():
        from frozenseg.cli.train_net import main  # takes seconds

        status = main([*arguments, *(opts or [])])
    raise typer.Exit(status)
