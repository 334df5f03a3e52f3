"""``frozenseg figure clusters``: k-means of SAM's features (Fig. 7)."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from frozenseg.cli.console import errors
from frozenseg.cli.figure import options
from frozenseg.cli.figure.sources import Choice, expect_png, write_figure
from frozenseg.errors import UserError


def clusters(
    images: options.Images = None,
    dataset: options.Dataset = None,
    index: options.Index = None,
    limit: options.Limit = None,
    sam: Annotated[
        list[str] | None,
        typer.Option(
            help="vit_t, vit_b, vit_l, vit_h, or shapes; again for more (default: shapes).",
            show_default=False,
        ),
    ] = None,
    sam_weights: Annotated[
        list[Path] | None,
        typer.Option(
            help="A local file for each --sam, if not the published one.", show_default=False
        ),
    ] = None,
    num_clusters: Annotated[
        int, typer.Option("--clusters", "-k", help="How many.", min=2, max=64)
    ] = 8,
    seed: Annotated[int, typer.Option(help="Of the first centres.", min=0)] = 0,
    device: options.Device = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture to write, a PNG file.")
    ] = Path("output/figures/clusters.png"),
) -> None:
    """Show what SAM's image encoder tells apart: k-means of its features, a column for each SAM.

    A column's colours mean the same in all rows, and nothing in other columns.

    Example: frozenseg figure clusters photo.jpg --sam vit_t --sam vit_b --sam vit_h
    """
    expect_png(output)
    names = sam or ["shapes"]
    if sam_weights and len(sam_weights) != len(names):
        raise UserError(f"{len(names)} --sam but {len(sam_weights)} --sam-weights: give one each")
    pictures = Choice(images or (), dataset, index or (), limit).open((), with_words=False)

    from frozenseg.analysis.clusters import cluster_maps, draw_clusters
    from frozenseg.runtime.devices import choose_device
    from frozenseg.towers.loading import load_sam
    from frozenseg.visualization import enlarged, grid

    columns = [[enlarged(image.permute(1, 2, 0).numpy()) for image in pictures.images]]
    for row, name in enumerate(names):
        with errors.status(f"clustering features of SAM {name}"):
            tower = load_sam(name, str(sam_weights[row]) if sam_weights else "")
            tower.to(choose_device(device or "auto"))
            maps = cluster_maps(tower, pictures.images, num_clusters, seed=seed)
        columns.append(list(map(draw_clusters, pictures.images, maps)))
        del tower  # one in memory at a time
        gc.collect()
    titles = ["image", *(f"SAM {name}" for name in names)]
    write_figure(grid(list(zip(*columns, strict=True)), titles), output, pictures.names)
