"""``frozenseg evaluate``: the scores of a model on a data set, and its predictions as files."""

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
        bool, typer.Option(help="Use the class ensemble (eq. 3), not the decoder alone.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an interrupted evaluation.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images with a missing or damaged file.")
    ] = False,
    save_predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write predictions in the data set's official format: COCO panoptic, COCO or LVIS "
            "results, Cityscapes, ADE20K.",
            show_default=False,
        ),
    ] = None,
    opts: KeyValues = None,
) -> None:
    """Evaluate a model: panoptic quality, mIoU and mask AP, also for seen and unseen classes.

    Test sizes and tasks come from the data set's file below configs/eval. Writes metrics.json, a
    CSV table per task and, with --skip-bad, the list of files that were left out.

    Example: frozenseg evaluate --dataset shapes --output output/shapes
    """
    from frozenseg import model_config
    from frozenseg.builders.evaluation import evaluate_dataset, open_test_set, save_report
    from frozenseg.builders.options import RunOptions
    from frozenseg.builders.segmenter import build_segmenter
    from frozenseg.data.catalog import dataset_name
    from frozenseg.io.files import make_folder
    from frozenseg.metrics import metrics_table

    name, over = test_set(dataset, model=model)
    overrides = [*(opts or []), *([] if ensemble else _decoder_alone())]
    cfg = model_config(model, weights=weights, device=device, over=over, overrides=overrides)
    open_test_set(cfg, name, skip_bad=skip_bad)  # missing files are reported before the model loads
    with errors.status("loading the model"):
        segmenter = build_segmenter(cfg)
    for folder in filter(None, (output, save_predictions)):
        make_folder(folder)
    options = RunOptions(
        resume=resume, limit=limit, skip_bad=skip_bad, save_predictions=save_predictions
    )
    report = evaluate_dataset(cfg, segmenter, name, output, options)
    console.print(metrics_table(report.metrics, title=dataset_name(name)))
    if report.speed is not None:
        console.print(str(report.speed), highlight=False, markup=False, soft_wrap=True)
    save_report(report, output)
    console.print(f"written: {output / 'metrics.json'}", highlight=False, markup=False)
    if save_predictions is not None:
        console.print(f"predictions: {save_predictions}", highlight=False, markup=False)
    if report.skipped:
        note = f"left out: {len(report.skipped)} bad files, listed in {output / 'skipped.txt'}"
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def test_set(dataset: str, *, model: str | Path | None = None) -> tuple[str, list[Path]]:
    """Returns the registered name of a data set and the files with its test sizes and tasks.

    Args:
        dataset: a file below configs/eval, a registered name or a data set file.
        model: the model that is tested. OVSeg has files of its own, below configs/ovseg/eval, and
            where there is none, its own test size applies. Mask-Adapter has one size for all sets.
    """
    from frozenseg import model_config
    from frozenseg.config import CONFIG_ROOT, load_config
    from frozenseg.data.catalog import SHAPES, dataset_spec

    name = ALIASES.get(dataset, dataset)
    if name in SHAPES:
        return name, []
    own = CONFIG_ROOT / "eval" / f"{dataset}.yaml"
    if own.is_file():
        name = load_config(own).DATASETS.TEST[0]
    else:
        spec = dataset_spec(name)
        own = own.with_stem(spec.vocabulary) if spec.classes is None else None
    members = None if model is None else model_config(model).MODEL.PIPELINE
    if members is not None and members.PROPOSER == "maskformer":
        own = own and own.parents[1] / "ovseg" / "eval" / own.name
    files = [own] if own is not None and own.is_file() else []
    if files and members is not None and members.REGION_CLASSIFIER == "mask_adapter":
        files.append(CONFIG_ROOT / "family" / "eval" / "mask_adapter.yaml")
    return name, files


def _decoder_alone() -> list[str]:
    """Returns keys that set both weights of CLIP's classification to zero."""
    return [
        word
        for architecture in ("FROZEN_SEG", "FC_CLIP")
        for key in ("ALPHA", "BETA")
        for word in (f"MODEL.{architecture}.GEOMETRIC_ENSEMBLE_{key}", "0.0")
    ]
