"""ADE20K (847 classes): images of at most 512 pixels on the short side, and their label maps.

    frozenseg datasets prepare ade20k_full

Reads, below ADE20K_2021_17_01/ in the data root, images/ADE/SPLIT/**/ADE_*.jpg with their *_seg.png
(red and green say the class, blue the object). Writes images_detectron2/SPLIT/*.jpg and
annotations_detectron2/SPLIT/*.tif (16 bits, 0..846, 65535 = other).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from frozenseg.data.images import open_image, read_label_map
from frozenseg.data.preparation.running import (
    Preparation,
    check_same_size,
    input_files,
    run_script,
    save_labels,
)
from frozenseg.data.registry import dataset_spec
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.vocabulary import class_table

KNOWN = {"training": 25_574, "validation": 2_000}
SPLITS = tuple(KNOWN)
SHORT_SIDE = 512
IGNORE = 65535
PAGE = dataset_spec("openvocab_ade20k_full_sem_seg_val").page


class Job(NamedTuple):
    """The files of one image: one to read, two to write."""

    source: Path
    image: Path
    labels: Path


def prepare(preparation: Preparation, splits: Sequence[str]) -> None:
    base = preparation.root / "ADE20K_2021_17_01"
    for split in splits:
        preparation.remove_leftovers(
            base / "images_detectron2" / split, base / "annotations_detectron2" / split
        )
        pictures = input_files(
            base / "images/ADE" / split, "**/ADE_*.jpg", page=PAGE, known=KNOWN[split]
        )
        jobs = [
            Job(
                path,
                base / "images_detectron2" / split / path.name,
                base / "annotations_detectron2" / split / f"{path.stem}.tif",
            )
            for path in pictures
        ]
        jobs = [job for job in jobs if not preparation.is_done(job.labels)]
        preparation.run(convert, jobs, title=f"ADE20K full {split}", shared=class_lookup())


def convert(lookup: np.ndarray, job: Job) -> None:
    """Writes the label map last, so that it is there only if the image is."""
    segmentation = job.source.with_name(f"{job.source.stem}_seg.png")
    check_same_size(job.source, segmentation)
    picture = open_image(job.source).convert("RGB")  # as stored, because its labels are, too
    labels = labels_of(read_label_map(segmentation), lookup, path=segmentation)
    size = shrunk(picture.size)
    with atomic_write(job.image) as part:
        picture.resize(size, Image.Resampling.BILINEAR).save(part)
    resized = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
    save_labels(np.asarray(resized), job.labels)


def labels_of(colors: np.ndarray, lookup: np.ndarray, *, path: Path) -> np.ndarray:
    """(H, W) uint16 classes of a *_seg.png: tens of red times 256, plus green, count from 1."""
    if colors.ndim != 3 or colors.dtype != np.uint8:
        raise UserError(f"{path} is not a colour image: fetch it again from {PAGE}")
    return lookup[colors[..., 0].astype(np.int64) // 10 * 256 + colors[..., 1]]


def class_lookup() -> np.ndarray:
    """Class 0..846, or the ignore label, by number in ADE20K's list of all objects."""
    lookup = np.full(26 * 256, IGNORE, dtype=np.uint16)
    for class_id, row in enumerate(class_table("ade20k_847")):
        lookup[row.dataset_id] = class_id
    return lookup


def shrunk(size: tuple[int, int]) -> tuple[int, int]:
    """Scaled down so that the short side has 512 pixels, if it has more."""
    scale = min(SHORT_SIDE / min(size), 1.0)
    return round(size[0] * scale), round(size[1] * scale)


def main(arguments: Sequence[str] | None = None) -> int:
    return run_script(prepare, about=__doc__, splits=SPLITS, arguments=arguments)
