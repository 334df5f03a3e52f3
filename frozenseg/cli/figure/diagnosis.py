"""``frozenseg figure diagnosis``: how much score is lost in masks and in classes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from frozenseg.cli.console import console, print_line
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.figure.images import DEFAULT_DATASET
from frozenseg.cli.figure.models import FigureModel, Title, load_each, single_pass
from frozenseg.cli.figure.output import expect_png, write_figure
from frozenseg.cli.options import Dataset, Limit, ModelOptions, OutputPng, grouped
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from frozenseg.analysis.diagnosis import Scores


LEGEND = {
    "true classes": "true classes, predicted masks",
    "true masks": "true masks, predicted classes",
    "both": "both true",
}


@grouped
def diagnosis(
    model: ModelOptions,
    title: Title = None,
    dataset: Dataset = DEFAULT_DATASET,
    limit: Limit = None,
    output: OutputPng = Path("output/figures/diagnosis.png"),
) -> None:
    """Show how much score is lost in masks and in classes: true classes, true masks, both.

    True classes: queries keep their masks and get the classes of the segments they match. True
    masks: annotated segments get the classes that the model predicts for them. The larger gain
    marks the weaker part. The numbers are also written as JSON beside the figure.

    Example: frozenseg figure diagnosis --dataset shapes --limit 50
    """
    expect_png(output)
    shown = FigureModel(model, title)
    name, _ = test_set(dataset)
    scores, num_images = _scores(shown, name, limit)
    subtitle = f"{shown.label} on {name}, {num_images:,} images, percent"
    numbers = output.with_suffix(".json")
    _write_numbers(numbers, scores, model=model, dataset=name, num_images=num_images)
    console.print(scores_table(scores, title=subtitle))
    for line in verdicts(scores):
        print_line(line)
    write_figure(_draw(scores, subtitle), output)
    print_line(f"numbers: {numbers}")


def _draw(scores: "Scores", subtitle: str) -> "Image":
    from frozenseg.visualization.bars import draw_bars

    shown = {
        LEGEND.get(variant, variant): {short_name(name): value for name, value in values.items()}
        for variant, values in scores.items()
    }
    return draw_bars(shown, title="Score lost in masks and in classes", subtitle=subtitle)


def _write_numbers(
    path: Path, scores: "Scores", *, model: ModelOptions, dataset: str, num_images: int
) -> None:
    from frozenseg.io.files import atomic_write

    record = {
        "dataset": dataset,
        "images": num_images,
        "model": model.model,
        "weights": None if model.weights is None else str(model.weights),
        "scores": scores,
    }
    with atomic_write(path) as part:
        part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def scores_table(scores: "Scores", *, title: str) -> Table:
    """One row per variant, one column per measure."""
    table = Table(title=title, title_justify="left")
    table.add_column()
    for measure in next(iter(scores.values())):
        table.add_column(short_name(measure), justify="right")
    for variant, values in scores.items():
        table.add_row(variant, *(f"{value:.1f}" for value in values.values()))
    return table


def verdicts(scores: "Scores") -> list[str]:
    """For PQ and for mIoU, a sentence that names the weaker part."""
    from frozenseg.analysis.diagnosis import AS_PREDICTED, TRUE_CLASSES, TRUE_MASKS

    lines = []
    for measure, value in scores[AS_PREDICTED].items():
        if measure.count("/") > 1:
            continue  # measures of seen or unseen classes only
        classes, masks = (scores[each][measure] - value for each in (TRUE_CLASSES, TRUE_MASKS))
        weaker = "classification" if classes > masks else "mask proposals"
        lines.append(
            f"{short_name(measure)} {value:.1f}: {classes:+.1f} with true classes, {masks:+.1f} "
            f"with true masks; the weaker part: {weaker}"
        )
    return lines


def short_name(measure: str) -> str:
    """``unseen PQ`` for ``panoptic/unseen/PQ``."""
    _, *group, name = measure.split("/")
    return " ".join([name, *group])


def _scores(model: FigureModel, dataset: str, limit: int | None) -> "tuple[Scores, int]":
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
            f"{dataset} is evaluated neither by PQ nor by mIoU, which this figure needs: choose "
            "another data set"
        )
    samples = FirstSamples(open_test_set(cfg, dataset), limit)  # fails early if files are missing
    vocabulary, seen = build_test_vocabulary(cfg, dataset), build_known_vocabulary(cfg, dataset)
    ((_, segmenter),) = load_each([model], dataset)
    predictor = single_pass(segmenter, vocabulary, seen, *tasks)
    found = Diagnosis(predictor, names=vocabulary.names, ignore_label=scoring_of(dataset)[1])
    prepare = build_preparation(cfg, dataset)
    with ProgressBar(total=len(samples), what="diagnosing") as bar:
        for index in range(len(samples)):
            sample = samples[index]
            found.add(prepare(sample), sample)
            bar.advance()
    return found.scores(), len(samples)
