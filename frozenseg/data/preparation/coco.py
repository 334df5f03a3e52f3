"""COCO: semantic label maps from the panoptic annotation.

    frozenseg datasets prepare coco

Reads, below coco/ in the data root, annotations/panoptic_SPLIT2017.json and
panoptic_SPLIT2017/*.png. Writes panoptic_semseg_SPLIT2017/*.png: class 0..132 in the order of the
JSON file's categories, 255 where there is no segment. Evaluation needs val; training needs neither.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frozenseg.data.datasets import panoptic_reader
from frozenseg.data.derived import labels_of_panoptic
from frozenseg.data.preparation.running import Preparation, check_same_size, run_script, save_labels
from frozenseg.data.readers.panoptic import PanopticReader
from frozenseg.data.registry import dataset_spec
from frozenseg.io.paths import inside
from frozenseg.structures import PanopticMap

VOID = 255
SPLITS = ("train", "val")


def prepare(preparation: Preparation, splits: Sequence[str]) -> None:
    for split in splits:
        spec = dataset_spec(f"openvocab_coco_2017_{split}_panoptic_with_sem_seg")
        reader = panoptic_reader(spec, preparation.root)
        assert reader is not None, "COCO has a panoptic annotation"
        target = preparation.root / f"coco/panoptic_semseg_{split}2017"
        preparation.remove_leftovers(target)
        files = [inside(target, name, source=reader.json) for name in reader.file_names]
        images = preparation.root / f"coco/{split}2017"
        jobs = [
            (row, images / f"{path.stem}.jpg", path)
            for row, path in enumerate(files)
            if not preparation.is_done(path)
        ]
        preparation.run(convert, jobs, title=f"COCO {split}: semantic", shared=reader)


def convert(reader: PanopticReader, job: tuple[int, Path, Path]) -> None:
    row, image, path = job
    if image.is_file():  # images are not needed here, but most users have them
        check_same_size(image, reader.map_file(row))
    save_labels(semantic_of(reader.read(row)), path)


def semantic_of(panoptic: PanopticMap) -> np.ndarray:
    """(H, W) uint8 class ids; crowds are painted like other segments."""
    return labels_of_panoptic(panoptic, ignore_label=VOID).numpy().astype(np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    return run_script(prepare, about=__doc__, splits=SPLITS, arguments=arguments)
