"""PASCAL VOC 2012: label maps with and without a background class.

    frozenseg datasets prepare pascal_voc

Reads, below VOCdevkit/VOC2012/ in the data root, ImageSets/Segmentation/*.txt, JPEGImages/*.jpg and
SegmentationClass/*.png. Writes, below pascal_voc_d2/, images/SPLIT/*.jpg,
annotations_pascal21/SPLIT/*.png (0..20, 255 = void) and annotations_pascal20/SPLIT/*.png (0..19,
255 = background or void).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frozenseg.data.images import read_label_map
from frozenseg.data.preparation.running import (
    Preparation,
    check_same_size,
    copy_file,
    run_script,
    save_labels,
)
from frozenseg.data.readers.files import missing_files
from frozenseg.data.registry import dataset_spec
from frozenseg.errors import UserError
from frozenseg.io.paths import inside

LISTS = {"training": "train", "validation": "val"}
SPLITS = tuple(LISTS)
ENDINGS = (".jpg", ".png", ".jpg", ".png", ".png")
NUM_CLASSES, VOID = 20, 255
PAGE = dataset_spec("openvocab_pascal21_sem_seg_val").page


class Job(NamedTuple):
    """The files of one image: two to read, three to write."""

    picture: Path
    labels: Path
    image: Path
    with_background: Path
    without_background: Path


def prepare(preparation: Preparation, splits: Sequence[str]) -> None:
    source, target = preparation.root / "VOCdevkit/VOC2012", preparation.root / "pascal_voc_d2"
    for split in splits:
        list_file = source / "ImageSets/Segmentation" / f"{LISTS[split]}.txt"
        folders = (
            source / "JPEGImages",
            source / "SegmentationClass",
            target / "images" / split,
            target / "annotations_pascal21" / split,
            target / "annotations_pascal20" / split,
        )
        preparation.remove_leftovers(*folders[2:])
        jobs = [
            Job(
                *(
                    inside(folder, f"{stem}{ending}", source=list_file)
                    for folder, ending in zip(folders, ENDINGS, strict=True)
                )
            )
            for stem in listed(list_file)
        ]
        if missing := missing_files(path for job in jobs for path in job[:2]):
            raise UserError(f"{missing[0]} is listed but missing: get it from {PAGE}")
        jobs = [job for job in jobs if not all(map(preparation.is_done, job[2:]))]
        preparation.run(convert, jobs, title=f"PASCAL VOC {split}")


def listed(path: Path) -> list[str]:
    """The image names of a split."""
    if not path.is_file():
        raise UserError(f"no list {path}: get it from {PAGE}, or give another --root")
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a list of names ({error}): get it from {PAGE}") from error


def convert(_: None, job: Job) -> None:
    check_same_size(job.picture, job.labels)
    labels = read_label_map(job.labels)
    if (
        labels.ndim != 2
        or labels.dtype != np.uint8
        or ((labels > NUM_CLASSES) & (labels != VOID)).any()
    ):
        raise UserError(f"{job.labels} is not a label map of 0..{NUM_CLASSES} and {VOID}")
    copy_file(job.picture, job.image)
    save_labels(labels, job.with_background)
    save_labels(without_background(labels), job.without_background)


def without_background(labels: np.ndarray) -> np.ndarray:
    """Classes move down by one; background becomes void."""
    return np.where(labels == VOID, VOID, labels - np.uint8(1))


def main(arguments: Sequence[str] | None = None) -> int:
    return run_script(prepare, about=__doc__, splits=SPLITS, arguments=arguments)
