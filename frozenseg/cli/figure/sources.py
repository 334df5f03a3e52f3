"""What a figure is made of: pictures with their words, and models."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from frozenseg.cli.console import console, errors
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.segment import find_images
from frozenseg.cli.settings import key_values
from frozenseg.cli.words import vocabulary_of
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode
    from PIL.Image import Image
    from torch import Tensor

    from frozenseg.data.specs import Task
    from frozenseg.inference.predictor import Predictor
    from frozenseg.inference.segmenter import Segmenter
    from frozenseg.structures import Sample
    from frozenseg.vocabulary import Vocabulary

DEFAULT_DATASET = "shapes"


@dataclass(frozen=True)
class Pictures:
    """Which images a figure shows, with what is annotated in them: files, or of a data set."""

    names: tuple[str, ...]
    samples: "tuple[Sample, ...]"
    dataset: str | None  # a registered name
    words: "Vocabulary | None" = None  # those of the options; of a data set, its own

    @property
    def images(self) -> "list[Tensor]":
        """(3, H, W) uint8 RGB."""
        return [sample.image for sample in self.samples]


@dataclass(frozen=True)
class Choice:
    """The options that say which pictures."""

    images: Sequence[Path]
    dataset: str | None
    indices: Sequence[int]
    limit: int | None
    words: str | None = None
    vocabulary: str | None = None
    stuff: str | None = None

    def open(self, tasks: "Sequence[Task]", *, with_words: bool = True) -> Pictures:
        """Reads what is chosen, of a data set with the annotations of these tasks.

        Raises:
            UserError: options exclude each other, or something is not there.
        """
        if not self.images:
            if self.words or self.vocabulary or self.stuff:
                raise UserError("a data set has words of its own: give --words with images only")
            return self._of_dataset(self.dataset or DEFAULT_DATASET, tasks)
        if self.dataset or self.indices or self.limit:
            raise UserError(
                "--dataset, --index and --limit choose samples of a data set: leave them out, "
                "or the images"
            )
        from frozenseg.data.images import read_image
        from frozenseg.structures import Sample

        words = None
        if with_words:
            words = vocabulary_of(self.words, self.vocabulary, self.stuff)
        paths = find_images(list(self.images))
        samples = tuple(Sample(read_image(path), path.stem, str(path)) for path in paths)
        return Pictures(tuple(map(str, paths)), samples, None, words)

    def _of_dataset(self, dataset: str, tasks: "Sequence[Task]") -> Pictures:
        from frozenseg.data.catalog import dataset_samples

        name, _ = test_set(dataset)
        if self.indices and self.limit:
            raise UserError("--index and --limit exclude each other: give one of them")
        with errors.status(f"opening {name}"):
            samples = dataset_samples(name, tasks=tasks)
        indices = self.indices or range(min(self.limit or 1, len(samples)))
        if not all(0 <= index < len(samples) for index in indices):
            raise UserError(f"{name} has samples 0 to {len(samples) - 1}: give another --index")
        chosen = tuple(samples[index] for index in indices)
        names = tuple(f"{name} {index}" for index in indices)
        return Pictures(names, chosen, name)


class Model(NamedTuple):
    """The options that say which model."""

    name: str
    weights: Path | None
    settings: Sequence[str]
    title: str | None
    device: str | None

    def config(self, dataset: str | None) -> "CfgNode":
        """Its configuration, with a data set's test sizes and tasks over it."""
        from frozenseg import model_config

        over = [] if dataset is None else test_set(dataset)[1]
        return model_config(
            self.name,
            weights=self.weights,
            device=self.device,
            over=over,
            overrides=key_values(self.settings),
        )

    def label(self) -> str:
        return self.title or Path(self.name).stem


def models_of(model: Model, baseline: Model | None) -> list[Model]:
    """The baseline, if there is one, then the model; their titles differ."""
    if baseline is None:
        return [model]
    if baseline.label() == model.label():
        baseline = baseline._replace(title="baseline")
    return [baseline, model]


def baseline_of(
    name: str | None,
    weights: Path | None,
    settings: Sequence[str] | None,
    title: str | None,
    *,
    model: Model,
) -> Model | None:
    """The baseline of the options, if they say anything of one.

    Without a name it is the model itself, with other weights or keys.
    """
    if name is not None:
        return Model(name, weights, settings or (), title, model.device)
    if weights is None and not settings:
        return None
    both = [*model.settings, *(settings or ())]
    title = title or "baseline"
    return Model(model.name, weights or model.weights, both, title, model.device)


def loaded(models: Sequence[Model], dataset: str | None) -> "Iterator[tuple[CfgNode, Segmenter]]":
    """One model after the other, so that only one is in memory; configurations are read first."""
    from frozenseg.builders.segmenter import build_segmenter

    for model, cfg in [(model, model.config(dataset)) for model in models]:
        with errors.status(f"loading {model.label()}"):
            segmenter = build_segmenter(cfg)
        yield cfg, segmenter
        del segmenter
        gc.collect()


def words_of(pictures: Pictures, cfg: "CfgNode") -> "Vocabulary":
    """The words that a model segments the pictures with."""
    from frozenseg.builders.vocabularies import build_test_vocabulary

    if pictures.words is not None:
        return pictures.words
    assert pictures.dataset is not None, "files have the words of the options"
    return build_test_vocabulary(cfg, pictures.dataset)


def known_words(pictures: Pictures, cfg: "CfgNode") -> "Vocabulary":
    """Those that count as seen."""
    from frozenseg.builders.vocabularies import build_known_vocabulary, build_training_vocabulary

    if pictures.dataset is None:
        return build_training_vocabulary(cfg)
    return build_known_vocabulary(cfg, pictures.dataset)


def single_pass(
    segmenter: "Segmenter", words: "Vocabulary", known: "Vocabulary", *outputs: str
) -> "Predictor":
    """A predictor whose queries can be looked into.

    Raises:
        UserError: the model has none, or shows itself several variants of an image.
    """
    from frozenseg.inference.predictor import Predictor

    predictor = segmenter.build_predictor(words, outputs=outputs, training=known)
    if not isinstance(predictor, Predictor):
        raise UserError(
            "this figure needs a trained model of single passes: choose one, and turn TEST.AUG off"
        )
    return predictor


def expect_png(path: Path) -> None:
    """Raises a ``UserError`` for another kind of file, before the long work."""
    if path.suffix.lower() != ".png":
        raise UserError(f"{path} is no name of a PNG file: give an --output that ends in .png")


def write_figure(picture: "Image", path: Path, names: Sequence[str] = ()) -> None:
    """Writes a picture and says so, with what its rows show."""
    from frozenseg.io.files import atomic_write

    with atomic_write(path) as part:
        picture.save(part, format="PNG")
    for row, name in enumerate(names, start=1):
        console.print(f"row {row}: {name}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"written: {path}", highlight=False, markup=False, soft_wrap=True)
