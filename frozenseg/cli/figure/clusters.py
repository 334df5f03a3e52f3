"""``frozenseg figure clusters``: k-means of SAM's features (Fig. 7)."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from frozenseg.cli.console import errors
from frozenseg.cli.figure.images import ImageOptions
from frozenseg.cli.figure.output import expect_png, write_figure
from frozenseg.cli.options import Device, OutputPng, grouped
from frozenseg.errors import UserError


@grouped
def clusters(
    images: ImageOptions,
    sam: Annotated[
        list[str] | None,
        typer.Option(
            help="vit_t, vit_b, vit_l, vit_h or shapes; may be repeated (default: shapes).",
            show_default=False,
        ),
    ] = None,
    sam_weights: Annotated[
        list[Path] | None,
        typer.Option(
            help="A local file of weights for each --sam (default: published weights).",
            show_default=False,
        ),
    ] = None,
    num_clusters: Annotated[
        int, typer.Option("--clusters", "-k", help="Number of clusters.", min=2, max=64)
    ] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the initial centres.", min=0)] = 0,
    device: Device = None,
    output: OutputPng = Path("output/figures/clusters.png"),
) -> None:
    """Show k-means clusters of the features of SAM's image encoder, one column per SAM.

    A colour means the same cluster in all rows of a column, but not across columns.

    Example: frozenseg figure clusters photo.jpg --sam vit_t --sam vit_b --sam vit_h
    """
    expect_png(output)
    names = sam or ["shapes"]
    if sam_weights and len(sam_weights) != len(names):
        raise UserError(f"{len(names)} --sam but {len(sam_weights)} --sam-weights: give one each")
    opened = images.open(())

    from frozenseg.analysis.clusters import cluster_maps, draw_clusters
    from frozenseg.runtime.devices import choose_device
    from frozenseg.towers.loading import load_sam
    from frozenseg.visualization import enlarged, grid

    columns = [[enlarged(image.permute(1, 2, 0).numpy()) for image in opened.images]]
    for row, name in enumerate(names):
        with errors.status(f"clustering features of SAM {name}"):
            tower = load_sam(name, str(sam_weights[row]) if sam_weights else "")
            tower.to(choose_device(device or "auto"))
            maps = cluster_maps(tower, opened.images, num_clusters, seed=seed)
        columns.append(list(map(draw_clusters, opened.images, maps)))
        del tower  # one in memory at a time
        gc.collect()
    titles = ["image", *(f"SAM {name}" for name in names)]
    write_figure(grid(list(zip(*columns, strict=True)), titles), output, opened.names)
