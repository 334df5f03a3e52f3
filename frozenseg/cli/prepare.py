"""``frozenseg datasets prepare``: makes the files that a public data set lacks."""

import os
from typing import Annotated

import typer

from frozenseg.cli.options import Root
from frozenseg.errors import UserError


def prepare(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="coco, ade20k, ade20k_full, pascal_voc, pascal_context, or a registered name.",
            show_default=False,
        ),
    ],
    root: Root = None,
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            help="A split to prepare, such as training; may be repeated (default: validation).",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Parallel processes (default: one per core).", min=1, show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make existing files again.")] = False,
) -> None:
    """Make the label maps and annotations that a downloaded data set lacks.

    Existing files are kept, so the same command resumes an interrupted preparation.

    Example: frozenseg datasets prepare ade20k
    """
    from frozenseg.data.preparation import preparation_of
    from frozenseg.data.preparation.running import Preparation, default_splits
    from frozenseg.data.specs import data_root

    module = preparation_of(name)
    chosen = splits or default_splits(module.SPLITS)
    for split in chosen:
        if split not in module.SPLITS:
            raise UserError(
                f"{name} has no split {split}: give --split {' or '.join(module.SPLITS)}"
            )
    folder = data_root() if root is None else root
    module.prepare(Preparation(folder, processes or os.cpu_count() or 1, force), chosen)
