"""The images that a figure shows, and their vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frozenseg.cli.console import errors
from frozenseg.cli.evaluate import test_set
from frozenseg.cli.image_files import find_images
from frozenseg.cli.options import Images, VocabularyOptions
from frozenseg.errors import UserError

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode
    from torch import Tensor

    from frozenseg.data.specs import Task
    from frozenseg.structures import Sample
    from frozenseg.vocabulary import Vocabulary

DEFAULT_DATASET = "shapes"


@dataclass(frozen=True)
class FigureImages:
    """Images from files or from a data set."""

    names: tuple[str, ...]
    samples: "tuple[Sample, ...]"
    dataset: str | None  # a registered name; None for files
    vocabulary: "Vocabulary | None" = None  # of the options; a data set has its own

    @property
    def images(self) -> "list[Tensor]":
        """(3, H, W) uint8 RGB."""
        return [sample.image for sample in self.samples]

    def vocabulary_for(self, cfg: "CfgNode") -> "Vocabulary":
        """The classes that the model of ``cfg`` segments these images with."""
        from frozenseg.builders.vocabularies import build_test_vocabulary

        if self.vocabulary is not None:
            return self.vocabulary
        assert self.dataset is not None, "files have the vocabulary of the options"
        return build_test_vocabulary(cfg, self.dataset)

    def seen_vocabulary(self, cfg: "CfgNode") -> "Vocabulary":
        """The training classes by which classes count as seen (eq. 3)."""
        from frozenseg.builders.vocabularies import (
            build_known_vocabulary,
            build_training_vocabulary,
        )

        if self.dataset is None:
            return build_training_vocabulary(cfg)
        return build_known_vocabulary(cfg, self.dataset)


@dataclass(frozen=True)
class ImageOptions:
    """Image files, or samples of a data set."""

    images: Images = None
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Without images: a registered name, a short name such as ade20k_150, or a file "
            "(default: shapes).",
            show_default=False,
        ),
    ] = None
    index: Annotated[
        list[int] | None,
        typer.Option(
            "--index",
            "-i",
            help="Index of a sample of the data set, from 0; may be repeated (default: 0).",
            show_default=False,
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(
            help="Show the first N samples instead.", metavar="N", min=1, show_default=False
        ),
    ] = None

    def open(
        self,
        tasks: "Sequence[Task]",
        *,
        classes: VocabularyOptions | None = None,
    ) -> FigureImages:
        """Reads the images; samples of a data set with their annotations for ``tasks``.

        Args:
            tasks: the annotations that the figure shows.
            classes: the options of the vocabulary, or None if the figure needs none.

        Raises:
            UserError: options exclude each other, or an image or data set is missing.
        """
        if self.images:
            return self._from_files(self.images, classes)
        if classes is not None and classes.any_given():
            raise UserError("a data set has its own vocabulary: give --words with images only")
        return self._from_dataset(self.dataset or DEFAULT_DATASET, tasks)

    def _from_files(self, images: list[Path], classes: VocabularyOptions | None) -> FigureImages:
        if self.dataset or self.index or self.limit:
            raise UserError(
                "--dataset, --index and --limit select samples of a data set: omit them, or omit "
                "the images"
            )
        from frozenseg.data.images import read_image
        from frozenseg.structures import Sample

        vocabulary = None if classes is None else classes.read()
        paths = find_images(images)
        samples = tuple(Sample(read_image(path), path.stem, str(path)) for path in paths)
        return FigureImages(tuple(map(str, paths)), samples, None, vocabulary)

    def _from_dataset(self, dataset: str, tasks: "Sequence[Task]") -> FigureImages:
        from frozenseg.data.catalog import dataset_samples

        name, _ = test_set(dataset)
        if self.index and self.limit:
            raise UserError("--index and --limit exclude each other: give one of them")
        with errors.status(f"opening {name}"):
            samples = dataset_samples(name, tasks=tasks)
        indices = self.index or range(min(self.limit or 1, len(samples)))
        if not all(0 <= index < len(samples) for index in indices):
            raise UserError(f"{name} has samples 0 to {len(samples) - 1}: give another --index")
        chosen = tuple(samples[index] for index in indices)
        names = tuple(f"{name} {index}" for index in indices)
        return FigureImages(names, chosen, name)
