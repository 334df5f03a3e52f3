"""The data sets of this project in ``DatasetCatalog`` and ``MetadataCatalog``."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from frozenseg.data.catalog import (
    SHAPES,
    SeenSamples,
    dataset_samples,
    dataset_vocabulary,
    training_samples,
)
from frozenseg.data.images import read_colors, read_image
from frozenseg.data.readers.panoptic import ids_of_colors, pixels_of
from frozenseg.data.readers.samples import DatasetSamples
from frozenseg.data.specs import SPECS, Task
from frozenseg.errors import UserError
from frozenseg.structures import PanopticMap, Sample, Segment
from frozenseg.visualization.palette import class_color

Record = dict[str, Any]


samples_of = cache(dataset_samples)  # opened once per process
_training_samples_of = cache(training_samples)


def records_of(name: str, tasks: frozenset[Task] | None = None) -> list[Record]:
    """Returns a small record per image; mapping it reads the image and its annotations.

    Args:
        name: registered data set.
        tasks: whose annotations are read and must exist; None: all evaluated tasks.
    """
    samples = samples_of(name, tasks=tasks)
    return [
        {**_file(samples, index), "dataset": name, "tasks": tasks, "index": index}
        for index in range(len(samples))
    ]


def training_records(name: str) -> list[Record]:
    """One light record per image of a data set file, to train on its seen classes."""
    samples = _training_samples_of(name)
    return [
        {**_file(samples, index), "training_set": name, "index": index}
        for index in range(len(samples))
    ]


def sample_of(record: Record) -> Sample:
    """Reads image and annotation of a record, ours or of Detectron2's panoptic data sets.

    Raises:
        UserError: the record has no panoptic annotation, or a file cannot be read.
    """
    if "training_set" in record:
        return _training_samples_of(record["training_set"])[record["index"]]
    if "dataset" in record:
        return samples_of(record["dataset"], tasks=record["tasks"])[record["index"]]
    if "pan_seg_file_name" not in record:
        raise UserError(
            f"{record['file_name']} has no pan_seg_file_name: use a data set with panoptic "
            "annotations, such as coco_2017_train_panoptic"
        )
    path = Path(record["pan_seg_file_name"])
    ids = ids_of_colors(read_colors(path), path=path)
    areas = pixels_of(ids)
    segments = tuple(
        Segment(
            id=info["id"],
            class_id=info["category_id"],
            is_thing=bool(info.get("isthing", True)),
            is_crowd=bool(info.get("iscrowd", False)),
            area=areas.get(info["id"], 0),
        )
        for info in record["segments_info"]
    )
    return Sample(
        image=read_image(record["file_name"]),
        image_id=record["image_id"],
        file_name=record["file_name"],
        panoptic=PanopticMap(torch.from_numpy(ids), segments),
    )


def _file(samples: Sequence[Sample], index: int) -> Record:
    if isinstance(samples, (DatasetSamples, SeenSamples)):
        return {
            "file_name": str(samples.image_file(index)),
            "image_id": samples.image_id(index),
        }
    return {"file_name": f"shapes/{index}", "image_id": index}  # generated, there is no file


def register(name: str) -> None:
    """Registers a data set and its metadata under its name.

    The class lists hold all classes, things and stuff, in the order of the contiguous ids.
    """
    DatasetCatalog.register(name, partial(records_of, name))
    vocabulary = dataset_vocabulary(name)
    names = list(vocabulary.names)
    colors = list(vocabulary.colors or map(class_color, range(len(vocabulary))))
    MetadataCatalog.get(name).set(
        thing_classes=names,
        stuff_classes=names,
        thing_colors=colors,
        stuff_colors=colors,
        thing_dataset_id_to_contiguous_id={
            index: index for index, is_thing in enumerate(vocabulary.is_thing) if is_thing
        },
        stuff_dataset_id_to_contiguous_id={index: index for index in range(len(vocabulary))},
        evaluator_type="frozenseg",
    )


def register_own(name: str) -> None:
    """Makes a data set file, or a data set registered from Python, known for training."""
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, partial(training_records, name))


def register_all() -> None:
    """Registers every data set of this project."""
    for name in (*SHAPES, *(spec.name for spec in SPECS)):
        register(name)


register_all()
