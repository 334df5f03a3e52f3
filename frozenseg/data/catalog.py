"""What a registered data set's name stands for: its samples and its vocabulary."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from frozenseg.data.datasets import open_dataset
from frozenseg.data.readers.samples import DatasetSamples
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.data.shapes.words import Split
from frozenseg.data.specs import Task, dataset_spec
from frozenseg.vocabulary.vocabulary import Vocabulary, builtin_vocabulary

SHAPES: Final[dict[str, Split]] = {"shapes_train": "train", "shapes_val": "val"}
DETECTRON2 = {"coco_2017_train_panoptic": "coco_panoptic"}  # registered by Detectron2 itself


def dataset_vocabulary(name: str) -> Vocabulary:
    """The classes of a registered data set.

    Raises:
        UserError: no data set has this name.
    """
    if name in SHAPES:
        return shapes_vocabulary(SHAPES[name])
    return builtin_vocabulary(DETECTRON2.get(name) or dataset_spec(name).vocabulary)


def dataset_samples(
    name: str,
    *,
    root: Path | None = None,
    tasks: Collection[Task] | None = None,
    skip_bad: bool = False,
) -> ShapesDataset | DatasetSamples:
    """The samples of a registered data set: drawn, or from the disk as in ``open_dataset``.

    Raises:
        UserError: no data set has this name, or its files are missing or broken.
    """
    if name in SHAPES:
        return ShapesDataset(SHAPES[name])
    return open_dataset(name, root=root, tasks=tasks, skip_bad=skip_bad)
