"""``frozenseg evaluate``: how good a model is on a data set, as a table and as ``metrics.json``."""

from pathlib import Path
from typing import Annotated

import typer

from frozenseg.cli.console import console, errors
from frozenseg.cli.options import (
    Dataset,
    Device,
    KeyValues,
    Limit,
    ModelName,
    OutputFolder,
    Weights,
)

ALIASES = {"shapes": "shapes_val"}


def evaluate(
    dataset: Dataset = "shapes",
    model: ModelName = "shapes",
    weights: Weights = None,
    device: Device = None,
    output: OutputFolder = Path("output/evaluate"),
    limit: Limit = None,
    ensemble: Annotated[
        bool, typer.Option(help="The class ensemble (eq. 3); without it the decoder is alone.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted evaluation.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images with a missing or damaged file.")
    ] = False,
    opts: KeyValues = None,
) -> None:
    """Evaluate a model: panoptic quality, mIoU and mask AP, also of seen and unseen classes.

    Test sizes and tasks are those of the data set's file below configs/eval. Writes metrics.json,
    a table per task (CSV) and, with --skip-bad, what was left out.

    Example: frozenseg evaluate --dataset shapes --output output/shapes
    """
    from frozenseg import model_config
    from frozenseg.builders.evaluation import evaluate_dataset, open_test_set
    from frozenseg.builders.segmenter import build_segmenter
    from frozenseg.data.catalog import dataset_name
    from frozenseg.metrics import metrics_table

    name, over = test_set(dataset)
    overrides = [*(opts or []), *([] if ensemble else _decoder_alone())]
    cfg = model_config(model, weights=weights, device=device, over=over, overrides=overrides)
    open_test_set(cfg, name, skip_bad=skip_bad)  # what it lacks is better known now
    with errors.status("loading the model"):
        segmenter = build_segmenter(cfg)
    report = evaluate_dataset(
        cfg, segmenter, name, output, resume=resume, limit=limit, skip_bad=skip_bad
    )
    console.print(metrics_table(report.metrics, title=dataset_name(name)))
    console.print(f"written: {output / 'metrics.json'}", highlight=False, markup=False)
    if report.skipped:
        note = f"left out: {len(report.skipped)} bad files, listed in {output / 'skipped.txt'}"
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def test_set(dataset: str) -> tuple[str, list[Path]]:
    """The registered name, and the file with the test sizes and tasks of that data set."""
    from frozenseg.config import CONFIG_ROOT, load_config
    from frozenseg.data.catalog import SHAPES, dataset_spec

    name = ALIASES.get(dataset, dataset)
    if name in SHAPES:
        return name, []
    own = CONFIG_ROOT / "eval" / f"{dataset}.yaml"
    if own.is_file():
        return load_config(own).DATASETS.TEST[0], [own]
    spec = dataset_spec(name)
    return name, [own.with_stem(spec.vocabulary)] if spec.classes is None else []


def _decoder_alone() -> list[str]:
    """Both weights of CLIP's own classification at zero, under either architecture's keys."""
    return [
        word
        for architecture in ("FROZEN_SEG", "FC_CLIP")
        for key in ("ALPHA", "BETA")
        for word in (f"MODEL.{architecture}.GEOMETRIC_ENSEMBLE_{key}", "0.0")
    ]
