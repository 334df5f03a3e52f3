"""PASCAL-Context: label maps of 59 and of 459 classes.

    python datasets/prepare_pascal_context.py

Reads, below VOCdevkit/VOC2010/ in the data root, trainval_merged.json (59 classes), trainval/*.mat
(459 classes) and JPEGImages/*.jpg. Writes, below pascal_ctx_d2/, images/SPLIT/*.jpg,
annotations_ctx59/SPLIT/*.png (0..58, 255 = other) and annotations_ctx459/SPLIT/*.tif (16 bits,
0..458, 65535 = unlabelled).
"""

import sys
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from frozenseg.data.preparation import Preparation, copy_file, run_script, save_labels
from frozenseg.data.readers.files import complete_entries, load_json, missing_files
from frozenseg.data.specs import dataset_spec
from frozenseg.errors import UserError
from frozenseg.vocabulary import class_table

PHASES = {"training": "train", "validation": "val"}
DAMAGED = (MatReadError, zlib.error, OSError, IndexError, TypeError, ValueError)  # loadmat's
OTHER_59, OTHER_459, NUM_459 = 255, 65535, 459
PAGE = dataset_spec("openvocab_pascal_ctx59_sem_seg_val").page


class Job(NamedTuple):
    """A picture with both annotations, and what becomes of them."""

    entry: Mapping[str, Any]  # of ``images`` in the JSON file
    picture: Path
    matrix: Path
    image: Path
    labels_59: Path
    labels_459: Path


def prepare(preparation: Preparation, splits: Sequence[str]) -> None:
    source, target = preparation.root / "VOCdevkit/VOC2010", preparation.root / "pascal_ctx_d2"
    path = source / "trainval_merged.json"
    content = load_json(path, lists=["images", "annos_segmentation"])
    segments: dict[int, list[dict[str, Any]]] = defaultdict(list)
    with complete_entries(path):
        for segment in content["annos_segmentation"]:
            segments[segment["image_id"]].append(segment)
        for split in splits:
            phase = PHASES[split]
            entries = [entry for entry in content["images"] if entry["phase"] == phase]
            jobs = [job_of(entry, source, target, split) for entry in entries]
            if missing := missing_files(file for job in jobs for file in (job.picture, job.matrix)):
                raise UserError(f"{missing[0]} is listed but missing: get it from {PAGE}")
            jobs = [job for job in jobs if not all(map(preparation.is_done, job[3:]))]
            preparation.run(convert, jobs, title=f"PASCAL-Context {split}", shared=segments)


def job_of(entry: Mapping[str, Any], source: Path, target: Path, split: str) -> Job:
    stem = Path(entry["file_name"]).stem
    return Job(
        entry,
        source / "JPEGImages" / f"{stem}.jpg",
        source / "trainval" / f"{stem}.mat",
        target / "images" / split / f"{stem}.jpg",
        target / "annotations_ctx59" / split / f"{stem}.png",
        target / "annotations_ctx459" / split / f"{stem}.tif",
    )


def convert(segments: Mapping[int, Sequence[Mapping[str, Any]]], job: Job) -> None:
    size = (job.entry["height"], job.entry["width"])
    copy_file(job.picture, job.image)
    save_labels(labels_59(segments.get(job.entry["image_id"], ()), size), job.labels_59)
    save_labels(labels_459(job.matrix), job.labels_459)


def labels_59(segments: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 classes; of segments that overlap, the later one counts."""
    class_ids = {row.dataset_id: k for k, row in enumerate(class_table("pascal_context_59"))}
    labels = np.full(size, OTHER_59, dtype=np.uint8)
    for segment in segments:
        if segment["category_id"] not in class_ids:
            raise UserError(
                f"trainval_merged.json has the unknown category {segment['category_id']} in image "
                f"{segment['image_id']}: get it again"
            )
        labels[rle.decode(segment["segmentation"]) > 0] = class_ids[segment["category_id"]]
    return labels


def labels_459(path: Path) -> np.ndarray:
    """(H, W) uint16 classes of a full annotation, which counts from 1; 0 is unlabelled."""
    try:
        labels = loadmat(path)["LabelMap"].astype(np.uint16)
    except (*DAMAGED, KeyError) as error:
        raise UserError(f"{path} has no LabelMap that can be read: get it again") from error
    if labels.max() > NUM_459:
        raise UserError(f"{path} has label {labels.max()}, but there are {NUM_459} classes")
    return np.where(labels == 0, OTHER_459, labels - np.uint16(1)).astype(np.uint16)


def main(arguments: Sequence[str] | None = None) -> int:
    return run_script(
        prepare, about=__doc__, splits=list(PHASES), default=["validation"], arguments=arguments
    )


if __name__ == "__main__":
    sys.exit(main())
