"""The model that a figure shows, and the baseline beside it."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from frozenseg.cli.console import errors
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.options import ModelOptions, key_values
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

    from frozenseg.inference.predictor import Predictor
    from frozenseg.inference.segmenter import Segmenter
    from frozenseg.vocabulary import Vocabulary

Title = Annotated[
    str | None,
    typer.Option(help="Name of the model in the figure (default: its file).", show_default=False),
]


@dataclass(frozen=True)
class BaselineOptions:
    """A second model; without its own configuration it is the model with other weights or keys."""

    baseline: Annotated[
        str | None,
        typer.Option(help="Model to compare with, given as for --model.", show_default=False),
    ] = None
    baseline_weights: Annotated[
        Path | None, typer.Option(help="Weights of the baseline.", show_default=False)
    ] = None
    baseline_settings: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline-set",
            metavar="KEY=VALUE",
            help="Override a configuration key of the baseline; may be repeated.",
            show_default=False,
        ),
    ] = None
    baseline_title: Annotated[
        str | None, typer.Option(help="Name of the baseline in the figure.", show_default=False)
    ] = None

    def beside(self, model: ModelOptions) -> "FigureModel | None":
        """The baseline to compare ``model`` with; None if no option asks for one."""
        weights, settings, title = (
            self.baseline_weights,
            self.baseline_settings,
            self.baseline_title,
        )
        if self.baseline is not None:
            options = ModelOptions(self.baseline, weights, settings, model.device)
            return FigureModel(options, title)
        if weights is None and not settings:
            return None
        both = [*(model.settings or ()), *(settings or ())]
        options = ModelOptions(model.model, weights or model.weights, both, model.device)
        return FigureModel(options, title or "baseline")


class FigureModel(NamedTuple):
    """A model and its name in the figure."""

    options: ModelOptions
    title: str | None = None

    @property
    def label(self) -> str:
        return self.title or Path(self.options.model).stem

    def config(self, dataset: str | None) -> "CfgNode":
        """The configuration, with the test sizes and tasks of a data set."""
        from frozenseg import model_config

        return model_config(
            self.options.model,
            weights=self.options.weights,
            device=self.options.device,
            over=[] if dataset is None else test_set(dataset, model=self.options.model)[1],
            overrides=key_values(self.options.settings),
        )


def models_to_show(
    model: ModelOptions, title: str | None, baseline: BaselineOptions
) -> list[FigureModel]:
    """The baseline, if there is one, then the model; their labels differ."""
    shown = FigureModel(model, title)
    other = baseline.beside(model)
    if other is None:
        return [shown]
    if other.label == shown.label:
        other = other._replace(title="baseline")
    return [other, shown]


def load_each(
    models: Sequence[FigureModel], dataset: str | None
) -> "Iterator[tuple[CfgNode, Segmenter]]":
    """Reads all configurations, then loads one model after the other, to keep one in memory."""
    from frozenseg.builders.segmenter import build_segmenter

    for model, cfg in [(model, model.config(dataset)) for model in models]:
        with errors.status(f"loading {model.label}"):
            segmenter = build_segmenter(cfg)
        yield cfg, segmenter
        del segmenter
        gc.collect()


def single_pass(
    segmenter: "Segmenter", vocabulary: "Vocabulary", seen: "Vocabulary", *outputs: str
) -> "Predictor":
    """A predictor that exposes its queries.

    Args:
        segmenter: the loaded model.
        vocabulary: the classes to segment.
        seen: the training classes by which ``vocabulary`` counts as seen.
        outputs: the results to compute; none means those of the configuration.

    Raises:
        UserError: the model has no queries, or uses test-time augmentation.
    """
    from frozenseg.inference.predictor import Predictor

    predictor = segmenter.build_predictor(vocabulary, outputs=outputs, training=seen)
    if not isinstance(predictor, Predictor):
        raise UserError(
            "this figure needs a trained model without test-time augmentation: choose one, and "
            "turn TEST.AUG off"
        )
    return predictor
