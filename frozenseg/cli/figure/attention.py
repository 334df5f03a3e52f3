"""``frozenseg figure attention``: where the best query looks in the last layer (Fig. 6)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from frozenseg.cli.console import errors
from frozenseg.cli.figure import options
from frozenseg.cli.figure.sources import (
    Choice,
    Model,
    baseline_of,
    expect_png,
    known_words,
    loaded,
    models_of,
    single_pass,
    words_of,
    write_figure,
)
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from frozenseg.analysis.attention import QueryView
    from frozenseg.inference.predictor import Predictor
    from frozenseg.vocabulary import Vocabulary


def attention(
    images: options.Images = None,
    dataset: options.Dataset = None,
    index: options.Index = None,
    limit: options.Limit = None,
    words: options.Words = None,
    vocabulary: options.VocabularyName = None,
    stuff: options.Stuff = None,
    word: Annotated[
        str | None,
        typer.Option(
            help="Look at this class (default: the surest thing, or stuff where there is none).",
            show_default=False,
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
    device: options.Device = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture to write, a PNG file.")
    ] = Path("output/figures/attention.png"),
) -> None:
    """Show where the surest query looks: its cross-attention in the decoder's last layer.

    The frame is around the query's mask. A baseline's query is the one whose mask fits that of the
    model best. Weights are means over heads; the largest of each picture is the brightest.

    Example: frozenseg figure attention --index 3 --index 19
    """
    expect_png(output)
    choice = Choice(images or (), dataset, index or (), limit, words, vocabulary, stuff)
    chosen = Model(model, weights, settings or (), title, device)
    other = baseline_of(
        *(baseline, baseline_weights, baseline_settings, baseline_title), model=chosen
    )
    pictures = choice.open(())
    models = models_of(chosen, other)[::-1]  # the model says which object
    views: list[list[QueryView]] = []
    for each, (cfg, segmenter) in zip(models, loaded(models, pictures.dataset), strict=True):
        classes = words_of(pictures, cfg)
        predictor = single_pass(segmenter, classes, known_words(pictures, cfg))
        seen = [
            _as_seen(image, segmenter.short_side, segmenter.long_side) for image in pictures.images
        ]
        objects = [view.mask for view in views[0]] if views else None
        views.append(_views(predictor, seen, _allowed(classes, word), objects, each.label()))
    titles = ["query", *(each.label() for each in models[::-1])]

    from frozenseg.analysis.attention import draw_attention, draw_object
    from frozenseg.visualization import grid

    rows = [
        [
            draw_object(image, first, classes.names[first.class_id]),
            *(draw_attention(image, view) for view in (*others, first)),
        ]
        for image, first, *others in zip(pictures.images, *views, strict=True)
    ]
    write_figure(grid(rows, titles), output, pictures.names)


def _as_seen(image: "Tensor", short_side: int, long_side: int) -> "Tensor":
    from frozenseg.data.augmentation import resize_for_test

    return resize_for_test(image, short_side, long_side)


def _allowed(classes: "Vocabulary", word: str | None) -> list[bool]:
    """Which classes the query may have.

    Raises:
        UserError: the word is none of them.
    """
    if word is None:
        return list(classes.is_thing) if any(classes.is_thing) else [True] * len(classes)
    allowed = [word in synonyms for synonyms in classes.synonyms]
    if not any(allowed):
        raise UserError(f"'{word}' is none of the {len(classes)} classes: give --word one of them")
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
