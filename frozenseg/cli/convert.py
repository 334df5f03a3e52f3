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
    weights: Annotated[Path, typer.Argument(help="An official .pth, or ours.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    config: Annotated[
        str, typer.Option(help="The configuration of the weights: a model's name, or a YAML file.")
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
            help="WEIGHTS is a Mask-Adapter after its warm-up: fuse it with this file's decoder.",
            show_default=False,
        ),
    ] = None,
    with_towers: Annotated[
        bool, typer.Option(help="Store the frozen towers in an official file.")
    ] = True,
    light: Annotated[
        bool,
        typer.Option(
            "--light", help="Of a trained CLIP, store only what differs from the published one."
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
            "--light goes with neither --decoder nor --to official: convert the result once more"
        )
    if decoder is not None:
        fuse_adapter(weights, decoder, output, cfg)
    elif to is Layout.own:
        to_own_layout(weights, output, cfg, light=light)
    else:
        to_official_layout(weights, output, cfg, with_towers=with_towers)
    size = output.stat().st_size / 1e6
    console.print(f"wrote {markup(output)} ({size:.1f} MB)", highlight=False)
