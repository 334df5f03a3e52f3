"""What the figures' options have in common."""

from pathlib import Path
from typing import Annotated

import typer

from frozenseg.cli.settings import Settings as Settings

Images = Annotated[
    list[Path] | None,
    typer.Argument(metavar="IMAGE", help="Images, or folders of images.", show_default=False),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        help="Else: 'shapes', a file below configs/eval, or a registered name (default: shapes).",
        show_default=False,
    ),
]
Index = Annotated[
    list[int] | None,
    typer.Option(
        "--index",
        "-i",
        help="Which sample of the data set, from 0; again for more (default: 0).",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(help="Instead: the first so many samples.", min=1, show_default=False),
]
Words = Annotated[
    str | None,
    typer.Option(
        "--words",
        "-w",
        help="For images: classes, parted by ';', synonyms by ','.",
        show_default=False,
    ),
]
VocabularyName = Annotated[
    str | None,
    typer.Option(
        "--vocabulary",
        "-v",
        metavar="FILE|NAME",
        help="For images: a text file with a class per line, or a built-in list.",
        show_default=False,
    ),
]
Stuff = Annotated[
    str | None,
    typer.Option(help="Which of the classes are stuff (others are added).", show_default=False),
]
Model = Annotated[str, typer.Option(help="'shapes', the miniature model, or a YAML file.")]
Weights = Annotated[
    Path | None, typer.Option(help="Trained weights, if not the model's.", show_default=False)
]
Title = Annotated[
    str | None,
    typer.Option(help="What the picture calls the model (default: its name).", show_default=False),
]
Baseline = Annotated[
    str | None,
    typer.Option(help="What to compare with: 'shapes' or a YAML file.", show_default=False),
]
BaselineWeights = Annotated[Path | None, typer.Option(help="Its weights.", show_default=False)]
BaselineSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline-set", metavar="KEY=VALUE", help="A key of its to change.", show_default=False
    ),
]
BaselineTitle = Annotated[
    str | None, typer.Option(help="What the picture calls it.", show_default=False)
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ... (default: cuda if there is one).")]
