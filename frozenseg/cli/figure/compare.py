"""``frozenseg figure compare``: image, baseline, model and annotation (Fig. 4, 5, 8, 9)."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from frozenseg.cli.console import errors
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.figure import options
from frozenseg.cli.figure.sources import (
    DEFAULT_DATASET,
    Choice,
    Model,
    Pictures,
    baseline_of,
    expect_png,
    known_words,
    loaded,
    models_of,
    words_of,
    write_figure,
)
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from frozenseg.inference.segmenter import Predict
    from frozenseg.structures import Sample
    from frozenseg.visualization.comparison import Shown


class Task(StrEnum):
    panoptic = "panoptic"
    semantic = "semantic"


def compare(
    images: options.Images = None,
    dataset: options.Dataset = None,
    index: options.Index = None,
    limit: options.Limit = None,
    words: options.Words = None,
    vocabulary: options.VocabularyName = None,
    stuff: options.Stuff = None,
    task: Annotated[
        Task | None,
        typer.Option(
            help="What to show (default: panoptic, where it is annotated).", show_default=False
        ),
    ] = None,
    model: options.Model = "shapes",
    weights: options.Weights = None,
    settings: options.Settings = None,
    title: options.Title = None,
    baseline: options.Baseline = None,
    baseline_weights: options.BaselineWeights = None,
    baseline_settings: options.BaselineSettings = None,
    baseline_title: options.BaselineTitle = None,
    boxes: Annotated[
        bool, typer.Option(help="Frame the places where baseline and model differ most.")
    ] = True,
    device: options.Device = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture to write, a PNG file.")
    ] = Path("output/figures/compare.png"),
) -> None:
    """Show image, baseline, model and annotation side by side, a row for each image.

    Example: frozenseg figure compare -i 3 -i 19 --baseline fcclip.yaml --baseline-weights head.pth
    """
    expect_png(output)
    choice = Choice(images or (), dataset, index or (), limit, words, vocabulary, stuff)
    kind = task or Task.panoptic if images else _annotated_task(task, dataset or DEFAULT_DATASET)
    chosen = Model(model, weights, settings or (), title, device)
    other = baseline_of(
        *(baseline, baseline_weights, baseline_settings, baseline_title), model=chosen
    )
    models, pictures = models_of(chosen, other), choice.open((kind.value,))
    columns, titles = [], ["image", *(each.label() for each in models)]
    for each, (cfg, segmenter) in zip(models, loaded(models, pictures.dataset), strict=True):
        classes = words_of(pictures, cfg)
        predict = segmenter.predictor(classes, kind.value, training=known_words(pictures, cfg))
        size = segmenter.short_side, segmenter.long_side
        columns.append(_found(pictures, predict, size, each.label()))
    if pictures.dataset is not None:
        columns.append([_annotation(sample, kind) for sample in pictures.samples])
        titles.append("ground truth")

    from frozenseg.visualization import grid
    from frozenseg.visualization.comparison import comparison_row

    rows = [
        comparison_row(image, maps, classes, boxes=boxes and other is not None)
        for image, *maps in zip(pictures.images, *columns, strict=True)
    ]
    write_figure(grid(rows, titles), output, pictures.names)


def _annotated_task(asked: Task | None, dataset: str) -> Task:
    """What to show of a data set.

    Raises:
        UserError: it is not annotated.
    """
    from frozenseg.builders.scoring import offered_tasks

    name, _ = test_set(dataset)
    offered = [each for each in Task if each.value in offered_tasks(name)]
    if not offered:
        raise UserError(f"{name} has neither panoptic nor semantic annotation: choose another")
    if asked is not None and asked not in offered:
        raise UserError(f"{name} has no {asked} annotation: leave --task out, or choose another")
    return asked or offered[0]


def _found(
    pictures: Pictures, predict: "Predict", size: tuple[int, int], label: str
) -> "list[Shown]":
    """What a model makes of each picture, shown with short and long side of ``size`` pixels."""
    from frozenseg.data.augmentation import resize_for_test
    from frozenseg.structures import PanopticMap

    found: list[Shown] = []
    for image in track(pictures.images, label, console=errors, disable=not errors.is_terminal):
        own_size = image.shape[-2], image.shape[-1]
        (result,) = predict([resize_for_test(image, *size)], [own_size], [image])
        if result.panoptic is not None:
            found.append(PanopticMap(result.panoptic.ids.cpu(), result.panoptic.segments))
        else:
            assert result.semantic is not None, "one of the two was asked for"
            found.append(result.semantic.argmax(dim=0).cpu())
    return found


def _annotation(sample: "Sample", task: Task) -> "Shown":
    found = sample.panoptic if task is Task.panoptic else sample.semantic
    assert found is not None, "the data set was opened for this task"
    return found
