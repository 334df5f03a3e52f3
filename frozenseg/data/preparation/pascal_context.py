"""PASCAL-Context: label maps of 59 and of 459 classes.

    frozenseg datasets prepare pascal_context

Reads, below VOCdevkit/VOC2010/ in the data root, trainval_merged.json (59 classes), trainval/*.mat
(459 classes) and JPEGImages/*.jpg. Writes, below pascal_ctx_d2/, images/SPLIT/*.jpg,
annotations_ctx59/SPLIT/*.png (0..58, 255 = other) and annotations_ctx459/SPLIT/*.tif (16 bits,
0..458, 65535 = unlabelled).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frozenseg.data.annotations.categories import MAX_CATEGORY_ID
from frozenseg.data.annotations.faults import BadEntry, Faults
from frozenseg.data.annotations.fields import (
    MAX_SIDE,
    as_entry,
    file_name,
    identity,
    text,
    whole_number,
)
from frozenseg.data.annotations.run_lengths import decode_run_lengths
from frozenseg.data.images import image_size
from frozenseg.data.preparation.running import Preparation, copy_file, run_script, save_labels
from frozenseg.data.readers.files import load_json, missing_files
from frozenseg.data.registry import dataset_spec
from frozenseg.errors import UserError
from frozenseg.io.gates import parser_gate
from frozenseg.io.matlab_files import read_matrix
from frozenseg.io.paths import inside
from frozenseg.vocabulary import class_table

PHASES = {"training": "train", "validation": "val"}
SPLITS = tuple(PHASES)
OTHER_59, OTHER_459, NUM_459 = 255, 65535, 459
PAGE = dataset_spec("openvocab_pascal_ctx59_sem_seg_val").page


class Job(NamedTuple):
    """The files of one image: two to read, three to write."""

    entry: Mapping[str, Any]  # of ``images`` in the JSON file
    picture: Path
    matrix: Path
    image: Path
    labels_59: Path
    labels_459: Path


class Segments(NamedTuple):
    """All segments of the JSON file, by image id."""

    path: Path
    of_image: Mapping[int | str, Sequence[Mapping[str, Any]]]


def prepare(preparation: Preparation, splits: Sequence[str]) -> None:
    source, target = preparation.root / "VOCdevkit/VOC2010", preparation.root / "pascal_ctx_d2"
    path = source / "trainval_merged.json"
    content = load_json(path, lists=["images", "annos_segmentation"])
    faults = Faults(path)
    segments: dict[int | str, list[Mapping[str, Any]]] = defaultdict(list)
    for place, segment in enumerate(content["annos_segmentation"]):
        with faults.entry(f"annos_segmentation[{place}]"):
            segments[identity(as_entry(segment), "image_id")].append(segment)
    for split in splits:
        jobs: list[Job] = []
        for place, entry in enumerate(content["images"]):
            with faults.entry(f"images[{place}]"):
                if text(as_entry(entry), "phase") == PHASES[split]:
                    jobs.append(job_of(entry, source, target, split))
        preparation.remove_leftovers(*{output.parent for job in jobs for output in job[3:]})
        if missing := missing_files(file for job in jobs for file in (job.picture, job.matrix)):
            raise UserError(f"{missing[0]} is listed but missing: get it from {PAGE}")
        jobs = [job for job in jobs if not all(map(preparation.is_done, job[3:]))]
        preparation.run(
            convert, jobs, title=f"PASCAL-Context {split}", shared=Segments(path, segments)
        )


def job_of(entry: Mapping[str, Any], source: Path, target: Path, split: str) -> Job:
    """The files of an entry of ``images``.

    Raises:
        BadEntry: a value is missing or wrong.
    """
    identity(entry, "image_id")
    for key in ("height", "width"):
        whole_number(entry, key, low=1, high=MAX_SIDE)
    stem = Path(file_name(entry, "file_name")).stem

    def join(folder: Path, ending: str) -> Path:
        return inside(folder, f"{stem}{ending}", source="trainval_merged.json")

    return Job(
        entry,
        join(source / "JPEGImages", ".jpg"),
        join(source / "trainval", ".mat"),
        join(target / "images" / split, ".jpg"),
        join(target / "annotations_ctx59" / split, ".png"),
        join(target / "annotations_ctx459" / split, ".tif"),
    )


def convert(segments: Segments, job: Job) -> None:
    size = (job.entry["height"], job.entry["width"])
    image_id = job.entry["image_id"]
    if (found := image_size(job.picture, upright=False)) != size:
        raise UserError(
            f"{segments.path} states {size} (height, width) for image {image_id!r}, but "
            f"{job.picture} has {found}: get both again"
        )
    copy_file(job.picture, job.image)
    with Faults(segments.path).entry(f"a segment of image {image_id!r}"):
        save_labels(labels_59(segments.of_image.get(image_id, ()), size), job.labels_59)
    save_labels(labels_459(job.matrix, size), job.labels_459)


def labels_59(segments: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 classes; of segments that overlap, the later one counts.

    Raises:
        BadEntry: a segment has an unknown category, or run lengths that do not fit the image.
    """
    class_ids = {row.dataset_id: k for k, row in enumerate(class_table("pascal_context_59"))}
    labels = np.full(size, OTHER_59, dtype=np.uint8)
    for segment in segments:
        category = whole_number(segment, "category_id", low=0, high=MAX_CATEGORY_ID)
        if category not in class_ids:
            raise BadEntry(f"has the unknown category {category}")
        mask = decode_run_lengths(segment.get("segmentation"), size)
        labels[mask] = class_ids[category]
    return labels


def labels_459(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint16 classes of a full annotation, which counts from 1; 0 is unlabelled."""
    with parser_gate(path, expected="a MATLAB file with a LabelMap", advice="get it again"):
        labels = read_matrix(path, "LabelMap")
    if labels.shape != size or labels.dtype.kind not in "iuf":
        raise UserError(
            f"{path} has a LabelMap of {labels.dtype} and shape {labels.shape}, but its image is "
            f"{size}: get it again"
        )
    if not (labels.min() >= 0 and labels.max() <= NUM_459):
        raise UserError(
            f"{path} has labels from {labels.min()} to {labels.max()}, but there are {NUM_459} "
            "classes"
        )
    labels = labels.astype(np.uint16)
    return np.where(labels == 0, OTHER_459, labels - np.uint16(1)).astype(np.uint16)


def main(arguments: Sequence[str] | None = None) -> int:
    return run_script(prepare, about=__doc__, splits=SPLITS, arguments=arguments)
