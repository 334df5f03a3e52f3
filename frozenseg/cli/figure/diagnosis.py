"""``frozenseg figure diagnosis``: where the score is lost, in masks or in classes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from frozenseg.cli.console import console
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.figure import options
from frozenseg.cli.figure.sources import (
    DEFAULT_DATASET,
    Model,
    expect_png,
    loaded,
    single_pass,
    write_figure,
)
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from frozenseg.analysis.diagnosis import Scores


LEGEND = {
    "true classes": "true classes, masks as found",
    "true masks": "true masks, classes as found",
    "both": "both true",
}


def diagnosis(
    dataset: Annotated[
        str, typer.Option(help="'shapes', a file below configs/eval, or a registered name.")
    ] = DEFAULT_DATASET,
    limit: Annotated[
        int | None,
        typer.Option(help="Only the first images, for a quick look.", min=1, show_default=False),
    ] = None,
    model: options.Model = "shapes",
    weights: options.Weights = None,
    settings: options.Settings = None,
    title: options.Title = None,
    device: options.Device = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture to write, a PNG file.")
    ] = Path("output/figures/diagnosis.png"),
) -> None:
    """Show where the score is lost: with true classes, with true masks, with both.

    True classes: queries keep their masks and get the classes of the segments that they fit. True
    masks: annotated segments get the classes that the model gives them. What helps more is what
    fails more. The numbers are also written as JSON beside the picture.

    Example: frozenseg figure diagnosis --dataset shapes --limit 50
    """
    expect_png(output)
    chosen = Model(model, weights, settings or (), title, device)
    name, _ = test_set(dataset)
    scores, num_images = _scores(chosen, name, limit)

    from frozenseg.io.files import atomic_write
    from frozenseg.visualization.bars import draw_bars

    shown = {
        LEGEND.get(variant, variant): {
            short_name(measure): value for measure, value in values.items()
        }
        for variant, values in scores.items()
    }
    subtitle = f"{chosen.label()} on {name}, {num_images:,} images, percent"
    picture = draw_bars(shown, title="Where the score is lost", subtitle=subtitle)
    record = {
        "dataset": name,
        "images": num_images,
        "model": model,
        "weights": None if weights is None else str(weights),
        "scores": scores,
    }
    numbers = output.with_suffix(".json")
    with atomic_write(numbers) as part:
        part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    console.print(scores_table(scores, title=subtitle))
    for line in verdicts(scores):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    write_figure(picture, output)
    console.print(f"numbers: {numbers}", highlight=False, markup=False, soft_wrap=True)


def scores_table(scores: "Scores", *, title: str) -> Table:
    """A row per variant."""
    table = Table(title=title, title_justify="left")
    table.add_column()
    for measure in next(iter(scores.values())):
        table.add_column(short_name(measure), justify="right")
    for variant, values in scores.items():
        table.add_row(variant, *(f"{value:.1f}" for value in values.values()))
    return table


def verdicts(scores: "Scores") -> list[str]:
    """For each of PQ and mIoU, a sentence of what fails more."""
    from frozenseg.analysis.diagnosis import AS_IT_IS, TRUE_CLASSES, TRUE_MASKS

    lines = []
    for measure, value in scores[AS_IT_IS].items():
        if measure.count("/") > 1:
            continue  # of seen or unseen classes
        classes, masks = (scores[each][measure] - value for each in (TRUE_CLASSES, TRUE_MASKS))
        loser = "classification" if classes > masks else "mask proposals"
        lines.append(
            f"{short_name(measure)} {value:.1f}: {classes:+.1f} with true classes, {masks:+.1f} "
            f"with true masks; {loser} lose{'s' if classes > masks else ''} more"
        )
    return lines


def short_name(measure: str) -> str:
    """``panoptic/unseen/PQ`` is the PQ of unseen classes."""
    _, *group, name = measure.split("/")
    return " ".join([name, *group])


def _scores(model: Model, dataset: str, limit: int | None) -> "tuple[Scores, int]":
    from frozenseg.analysis.diagnosis import Diagnosis
    from frozenseg.builders.evaluation import FirstSamples, open_test_set
    from frozenseg.builders.scoring import evaluated_tasks, scoring_of
    from frozenseg.builders.training import build_preparation
    from frozenseg.builders.vocabularies import build_known_vocabulary, build_test_vocabulary
    from frozenseg.runtime.progress import ProgressBar

    cfg = model.config(dataset)
    tasks = [task for task in evaluated_tasks(cfg, dataset) if task != "instance"]
    if not tasks:
        raise UserError(
            f"{dataset} is scored neither by PQ nor by mIoU, of which this figure tells: choose "
            "another data set"
        )
    samples = FirstSamples(open_test_set(cfg, dataset), limit)  # what it lacks is said early
    words, known = build_test_vocabulary(cfg, dataset), build_known_vocabulary(cfg, dataset)
    ((_, segmenter),) = loaded([model], dataset)
    predictor = single_pass(segmenter, words, known, *tasks)
    found = Diagnosis(predictor, names=words.names, ignore_label=scoring_of(dataset)[1])
    prepare = build_preparation(cfg)
    with ProgressBar(total=len(samples), what="diagnosing") as bar:
        for index in range(len(samples)):
            sample = samples[index]
            found.add(prepare(sample), sample)
            bar.advance()
    return found.scores(), len(samples)
