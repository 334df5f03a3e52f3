"""COCO-Stuff as a data set: all 171 classes of COCO 2017, or 156 of them, as label maps."""

from typing import Literal

from frozenseg.data.dataset_spec import DatasetSpec
from frozenseg.data.readers.label_maps import LabelMaps

Split = Literal["train", "val"]

_NUM_IMAGES: dict[Split, int] = {"train": 118_287, "val": 5_000}


def coco_stuff_spec(split: Split, *, num_classes: Literal[171, 156] = 171) -> DatasetSpec:
    """Returns the record of a split of COCO-Stuff.

    Label maps are read as published: values are category ids minus 1, eleven of which do not occur,
    and 255 is unlabelled. Pixels of the 15 classes that COCO-Stuff-156 leaves out are unlabelled in
    it, too.

    Args:
        split: train2017 or val2017.
        num_classes: 171, or 156 for OVSeg's smaller training vocabulary.
    """
    kind = "stuff" if num_classes == 171 else "stuff156"
    return DatasetSpec(
        name=f"coco_2017_{split}_{kind}_sem_seg",
        title=f"COCO-Stuff, {num_classes} classes, {split}2017",
        vocabulary=f"coco_stuff_{num_classes}",
        images=f"coco/{split}2017/{{}}.jpg",
        semantic=LabelMaps(path=f"coco/stuffthingmaps/{split}2017/{{}}.png", own_ids=255),
        tasks=("semantic",),
        num_images=_NUM_IMAGES[split],
        page="https://github.com/nightrome/cocostuff",
        image_page="https://cocodataset.org/#download",
    )
