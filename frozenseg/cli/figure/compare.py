"""``frozenseg figure compare``: image, baseline, model and annotation (Fig. 4, 5, 8, 9)."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from frozenseg.cli.console import errors
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.figure.images import DEFAULT_DATASET, FigureImages, ImageOptions
from frozenseg.cli.figure.models import (
    BaselineOptions,
    FigureModel,
    Title,
    load_each,
    models_to_show,
)
from frozenseg.cli.figure.output import expect_png, write_figure
from frozenseg.cli.options import ModelOptions, OutputPng, VocabularyOptions, grouped
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from frozenseg.inference.segmenter import AnyPredictor
    from frozenseg.structures import Result, Sample
    from frozenseg.visualization.comparison import ClassMap
    from frozenseg.vocabulary import Vocabulary


class Task(StrEnum):
    panoptic = "panoptic"
    semantic = "semantic"


@grouped
def compare(
    images: ImageOptions,
    classes: VocabularyOptions,
    model: ModelOptions,
    baseline: BaselineOptions,
    title: Title = None,
    task: Annotated[
        Task | None,
        typer.Option(
            help="Kind of segmentation (default: panoptic, if the data set has it).",
            show_default=False,
        ),
    ] = None,
    boxes: Annotated[
        bool, typer.Option(help="Frame the regions where baseline and model differ most.")
    ] = True,
    output: OutputPng = Path("output/figures/compare.png"),
) -> None:
    """Show image, baseline, model and annotation side by side, one row per image.

    Example: frozenseg figure compare -i 3 -i 19 --baseline fcclip.yaml --baseline-weights head.pth
    """
    expect_png(output)
    shown_task = _task_to_show(task, images)
    models = models_to_show(model, title, baseline)
    opened = images.open((shown_task.value,), classes=classes)
    columns, vocabulary = _segment_with_each(models, opened, shown_task)
    titles = ["image", *(each.label for each in models)]
    if opened.dataset is not None:
        columns.append([_annotation(sample, shown_task) for sample in opened.samples])
        titles.append("ground truth")

    from frozenseg.visualization import grid
    from frozenseg.visualization.comparison import comparison_row

    rows = [
        comparison_row(image, maps, vocabulary, boxes=boxes and len(models) == 2)
        for image, *maps in zip(opened.images, *columns, strict=True)
    ]
    write_figure(grid(rows, titles), output, opened.names)


def _task_to_show(asked: Task | None, images: ImageOptions) -> Task:
    """The requested task, or the first that the data set has annotations for.

    Raises:
        UserError: the data set has no such annotations.
    """
    from frozenseg.builders.scoring import offered_tasks

    if images.images:
        return asked or Task.panoptic
    name, _ = test_set(images.dataset or DEFAULT_DATASET)
    offered = [each for each in Task if each.value in offered_tasks(name)]
    if not offered:
        raise UserError(f"{name} has neither panoptic nor semantic annotation: choose another")
    if asked is not None and asked not in offered:
        raise UserError(f"{name} has no {asked} annotation: omit --task, or choose another")
    return asked or offered[0]


def _segment_with_each(
    models: Sequence[FigureModel], images: FigureImages, task: Task
) -> "tuple[list[list[ClassMap]], Vocabulary]":
    """A column of maps for each model, and the classes of the last model."""
    columns = []
    for model, (cfg, segmenter) in zip(models, load_each(models, images.dataset), strict=True):
        vocabulary, seen = images.vocabulary_for(cfg), images.seen_vocabulary(cfg)
        predict = segmenter.build_predictor(vocabulary, outputs=(task.value,), training=seen)
        size = segmenter.short_side, segmenter.long_side
        columns.append(_segment(predict, images.images, size, label=model.label))
    return columns, vocabulary


def _segment(
    predict: "AnyPredictor", images: "Sequence[Tensor]", size: tuple[int, int], *, label: str
) -> "list[ClassMap]":
    """Segments each image, resized to a short and long side of ``size`` pixels."""
    from frozenseg.data.augmentation import resize_for_test
    from frozenseg.ops.maps import size_of
    from frozenseg.structures import InputImage

    maps = []
    for image in track(images, label, console=errors, disable=not errors.is_terminal):
        resized = resize_for_test(image, *size)
        (result,) = predict([InputImage(resized, image, size_of(image))])
        maps.append(_class_map(result))
    return maps


def _class_map(result: "Result") -> "ClassMap":
    from frozenseg.structures import PanopticMap

    if result.panoptic is not None:
        return PanopticMap(result.panoptic.ids.cpu(), result.panoptic.segments)
    assert result.semantic is not None, "one of the two tasks was requested"
    return result.semantic.cpu()


def _annotation(sample: "Sample", task: Task) -> "ClassMap":
    found = sample.panoptic if task is Task.panoptic else sample.semantic
    assert found is not None, "the data set was opened for this task"
    return found
