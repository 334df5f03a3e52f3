"""Samples and classes of a data set, by its name or its file."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, Literal

import torch

from frozenseg.data.datasets import open_dataset
from frozenseg.data.derived import without_classes
from frozenseg.data.readers.samples import DatasetSamples
from frozenseg.data.registry import dataset_spec, register_dataset
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.data.shapes.words import Split
from frozenseg.data.specs import Task
from frozenseg.structures import Sample
from frozenseg.vocabulary.vocabulary import Vocabulary, builtin_vocabulary

__all__ = [
    "DETECTRON2",
    "SHAPES",
    "SeenSamples",
    "dataset_name",
    "dataset_samples",
    "dataset_spec",
    "dataset_vocabulary",
    "own_test_size",
    "register_dataset",
    "training_samples",
    "training_vocabulary",
]

SHAPES: Final[dict[str, Split]] = {"shapes_train": "train", "shapes_val": "val"}
DETECTRON2 = {"coco_2017_train_panoptic": "coco_panoptic"}  # registered by Detectron2 itself


def dataset_name(name: str) -> str:
    """The name for folders and tables: a registered one as it is, that in a data set file.

    Raises:
        UserError: no data set has this name, or the file is wrong.
    """
    return name if name in SHAPES or name in DETECTRON2 else dataset_spec(name).name


def own_test_size(name: str) -> tuple[int, int] | None:
    """The short and long side at test, pixels, that a data set file states; None otherwise.

    Raises:
        UserError: no data set has this name, or the file is wrong.
    """
    if name in SHAPES or name in DETECTRON2:
        return None
    spec = dataset_spec(name)
    if spec.source is None or spec.short_side is None or spec.long_side is None:
        return None
    return spec.short_side, spec.long_side


def dataset_vocabulary(name: str) -> Vocabulary:
    """The classes of a registered data set, or of a data set file.

    Raises:
        UserError: no data set has this name, or the file is wrong.
    """
    if name in SHAPES:
        return shapes_vocabulary(SHAPES[name])
    if name in DETECTRON2:
        return builtin_vocabulary(DETECTRON2[name])
    return dataset_spec(name).class_list.vocabulary


def training_vocabulary(name: str) -> Vocabulary:
    """The classes that are trained on: all but those that a data set file lists as unseen.

    Raises:
        UserError: no data set has this name, or the file is wrong.
    """
    if name in SHAPES or name in DETECTRON2:
        return dataset_vocabulary(name)
    spec = dataset_spec(name)
    return spec.class_list.subset(spec.is_seen).vocabulary


def dataset_samples(
    name: str,
    *,
    root: Path | None = None,
    tasks: Collection[Task] | None = None,
    skip_bad: bool = False,
) -> ShapesDataset | DatasetSamples:
    """The samples of a data set: drawn, or from the disk as ``open_dataset`` reads them.

    Args:
        name: a registered name, or a data set file.
        root, tasks, skip_bad: see ``open_dataset``.

    Raises:
        UserError: no data set has this name, or its files are missing or broken.
    """
    if name in SHAPES:
        return ShapesDataset(SHAPES[name])
    return open_dataset(name, root=root, tasks=tasks, skip_bad=skip_bad)


def training_samples(
    name: str,
    *,
    task: Literal["panoptic", "semantic"] = "panoptic",
    root: Path | None = None,
    skip_bad: bool = False,
) -> "ShapesDataset | DatasetSamples | SeenSamples":
    """Samples with panoptic or label maps, whose class ids are those of ``training_vocabulary``.

    Args:
        name: a registered name, or a data set file.
        task: panoptic maps, or label maps.
        root, skip_bad: see ``open_dataset``.

    Raises:
        UserError: no data set has this name, or its files are missing or broken.
    """
    samples = dataset_samples(name, root=root, tasks=(task,), skip_bad=skip_bad)
    if isinstance(samples, ShapesDataset) or not dataset_spec(name).unseen:
        return samples
    spec = dataset_spec(name)
    return SeenSamples(samples, spec.is_seen, ignore_label=spec.ignore_label)


class SeenSamples(Sequence[Sample]):
    """Samples whose panoptic or label maps lack unseen classes.

    Args:
        samples: of all classes.
        is_seen: by class.
        ignore_label: of pixels without a class, in label maps.
    """

    def __init__(
        self, samples: DatasetSamples, is_seen: Sequence[bool], *, ignore_label: int = 255
    ) -> None:
        self.samples, self.ignore_label = samples, ignore_label
        seen = [class_id for class_id, is_kept in enumerate(is_seen) if is_kept]
        self.new_ids = {class_id: row for row, class_id in enumerate(seen)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        panoptic, semantic = sample.panoptic, sample.semantic
        if panoptic is not None:
            panoptic = without_classes(panoptic, self.new_ids)
        if semantic is not None:
            labels = torch.full_like(semantic, self.ignore_label)
            for class_id, row in self.new_ids.items():
                labels[semantic == class_id] = row
            semantic = labels
        return Sample(
            sample.image, sample.image_id, sample.file_name, panoptic=panoptic, semantic=semantic
        )

    def image_file(self, index: int) -> Path:
        return self.samples.image_file(index)

    def image_id(self, index: int) -> int | str:
        return self.samples.image_id(index)
