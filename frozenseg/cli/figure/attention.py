"""``frozenseg figure attention``: cross-attention of a query in the last layer (Fig. 6)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from frozenseg.cli.console import errors
from frozenseg.cli.figure.images import FigureImages, ImageOptions
from frozenseg.cli.figure.models import (
    BaselineOptions,
    FigureModel,
    Title,
    load_each,
    models_to_show,
    single_pass,
)
from frozenseg.cli.figure.output import expect_png, write_figure
from frozenseg.cli.options import ModelOptions, OutputPng, VocabularyOptions, grouped
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from frozenseg.analysis.attention import QueryView
    from frozenseg.inference.predictor import Predictor
    from frozenseg.vocabulary import Vocabulary


@grouped
def attention(
    images: ImageOptions,
    classes: VocabularyOptions,
    model: ModelOptions,
    baseline: BaselineOptions,
    title: Title = None,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class",
            "--word",
            help="Show the query of this class (default: the highest-scoring thing, or stuff if "
            "there are no things).",
            show_default=False,
        ),
    ] = None,
    output: OutputPng = Path("output/figures/attention.png"),
) -> None:
    """Show where the highest-scoring query attends in the decoder's last layer (cross-attention).

    The frame surrounds the query's mask. For the baseline, the query is the one whose
    mask overlaps the model's most. Weights are averaged over heads; each map is scaled to its own
    maximum.

    Example: frozenseg figure attention --index 3 --index 19
    """
    expect_png(output)
    models = models_to_show(model, title, baseline)[::-1]  # the model chooses the object
    opened = images.open((), classes=classes)
    columns, names = _attend_with_each(models, opened, class_name)

    from frozenseg.analysis.attention import draw_attention, draw_object
    from frozenseg.visualization import grid

    rows = [
        [
            draw_object(image, first, names[first.class_id]),
            *(draw_attention(image, view) for view in (*others, first)),
        ]
        for image, first, *others in zip(opened.images, *columns, strict=True)
    ]
    titles = ["query", *(each.label for each in models[::-1])]
    write_figure(grid(rows, titles), output, opened.names)


def _attend_with_each(
    models: Sequence[FigureModel], images: FigureImages, class_name: str | None
) -> "tuple[list[list[QueryView]], tuple[str, ...]]":
    """A column of query views for each model, and the class names; the first finds the objects."""
    columns: list[list[QueryView]] = []
    for model, (cfg, segmenter) in zip(models, load_each(models, images.dataset), strict=True):
        vocabulary = images.vocabulary_for(cfg)
        predictor = single_pass(segmenter, vocabulary, images.seen_vocabulary(cfg))
        resized = [
            _resized(image, segmenter.short_side, segmenter.long_side) for image in images.images
        ]
        objects = [view.mask for view in columns[0]] if columns else None
        allowed = _allowed(vocabulary, class_name)
        columns.append(_views(predictor, resized, allowed, objects, model.label))
    return columns, vocabulary.names


def _resized(image: "Tensor", short_side: int, long_side: int) -> "Tensor":
    from frozenseg.data.augmentation import resize_for_test

    return resize_for_test(image, short_side, long_side)


def _allowed(vocabulary: "Vocabulary", class_name: str | None) -> list[bool]:
    """For each class, True if the query may have it.

    Raises:
        UserError: the vocabulary has no class of that name.
    """
    if class_name is None:
        is_thing = vocabulary.is_thing
        return list(is_thing) if any(is_thing) else [True] * len(vocabulary)
    allowed = [class_name in synonyms for synonyms in vocabulary.synonyms]
    if not any(allowed):
        raise UserError(
            f"'{class_name}' is not one of the {len(vocabulary)} classes: give --class one of them"
        )
    return allowed


def _views(
    predictor: "Predictor",
    images: "list[Tensor]",
    allowed: list[bool],
    objects: "list[Tensor] | None",
    label: str,
) -> "list[QueryView]":
    import torch

    from frozenseg.analysis.attention import look_at_query

    among = torch.tensor(allowed, device=predictor.seen.device)
    return [
        look_at_query(predictor, image, among=among, on=None if objects is None else objects[row])
        for row, image in enumerate(
            track(images, label, console=errors, disable=not errors.is_terminal)
        )
    ]
