"""``frozenseg convert``: published weights to our format, and ours to the official one."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from frozenseg.cli.console import console
from frozenseg.errors import UserError
from frozenseg.io.text import markup


class Layout(StrEnum):
    own = "own"
    official = "official"


def convert(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="The file to convert.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The file to write.", show_default=False)
    ],
    config: Annotated[
        str, typer.Option(help="The model of the weights: a name, or a YAML file.")
    ] = "frozenseg_convnext_large.yaml",
    to: Annotated[
        Layout,
        typer.Option(
            help="own: safetensors without frozen towers. official: a .pth for the official code."
        ),
    ] = Layout.own,
    decoder: Annotated[
        Path | None,
        typer.Option(
            help="Fuse WEIGHTS, a Mask-Adapter after its warm-up, with the decoder of this file.",
            show_default=False,
        ),
    ] = None,
    with_towers: Annotated[
        bool, typer.Option(help="Include the frozen towers in an official file.")
    ] = True,
    light: Annotated[
        bool,
        typer.Option(
            "--light",
            help="Of a trained CLIP, store only the weights that differ from the published ones.",
        ),
    ] = False,
) -> None:
    """Convert weights between the official format and ours; every weight is checked.

    Example: frozenseg convert official.pth frozenseg.safetensors
    """
    from frozenseg.builders.weight_conversion import fuse_adapter, to_official_layout, to_own_layout
    from frozenseg.config import load_config, model_files

    cfg = load_config(model_files(config).config)
    if light and (decoder is not None or to is Layout.official):
        raise UserError(
            "--light excludes --decoder and --to official: convert the result again with it"
        )
    if output.suffix == (".pth" if to is Layout.own else ".safetensors"):
        raise UserError(
            f"{output} has the ending of the other format: --to own writes .safetensors files, and "
            "--to official .pth files"
        )
    if decoder is not None:
        fuse_adapter(weights, decoder, output, cfg)
    elif to is Layout.own:
        to_own_layout(weights, output, cfg, light=light)
    else:
        to_official_layout(weights, output, cfg, with_towers=with_towers)
    size = output.stat().st_size / 1e6
    console.print(f"wrote {markup(output)} ({size:.1f} MB)", highlight=False)
