"""``frozenseg evaluate``: how good a model is on a data set, as a table and as ``metrics.json``."""

from pathlib import Path
from typing import Annotated

import typer

from frozenseg.cli.console import console, errors

ALIASES = {"shapes": "shapes_val"}


def evaluate(
    dataset: Annotated[
        str, typer.Option(help="'shapes', or a registered name (see: frozenseg datasets).")
    ] = "shapes",
    model: Annotated[
        str, typer.Option(help="'shapes', the miniature model, or a YAML file.")
    ] = "shapes",
    weights: Annotated[
        Path | None, typer.Option(help="Trained weights, if not the model's.", show_default=False)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ... (default: cuda if there is one).")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "output/evaluate"
    ),
    limit: Annotated[
        int | None,
        typer.Option(help="Only the first images, for a quick look.", min=1, show_default=False),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option(help="The class ensemble (eq. 3); without it the decoder is alone.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted evaluation.")
    ] = False,
    opts: Annotated[
        list[str] | None,
        typer.Argument(help="Keys and values that override the file's.", show_default=False),
    ] = None,
) -> None:
    """Evaluate a model: panoptic quality, mIoU and mask AP, also of seen and unseen classes.

    Writes metrics.json and a table per task (CSV).

    Example: frozenseg evaluate --dataset shapes --output output/shapes
    """
    from frozenseg import model_config
    from frozenseg.engine.evaluation import evaluate_dataset
    from frozenseg.evaluation import metrics_table
    from frozenseg.inference.build import build_segmenter

    overrides = [*(opts or []), *([] if ensemble else _decoder_alone())]
    cfg = model_config(model, weights=weights, device=device, overrides=overrides)
    with errors.status("loading the model"):
        segmenter = build_segmenter(cfg)
    name = ALIASES.get(dataset, dataset)
    report = evaluate_dataset(cfg, segmenter, name, output, resume=resume, limit=limit)
    console.print(metrics_table(report.metrics, title=name))
    console.print(f"written: {output / 'metrics.json'}", highlight=False, markup=False)


def _decoder_alone() -> list[str]:
    """Both weights of CLIP's own classification at zero, under either architecture's keys."""
    return [
        word
        for architecture in ("FROZEN_SEG", "FC_CLIP")
        for key in ("ALPHA", "BETA")
        for word in (f"MODEL.{architecture}.GEOMETRIC_ENSEMBLE_{key}", "0.0")
    ]
