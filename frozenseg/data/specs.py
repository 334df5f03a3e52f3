"""The data sets of the papers: one record each, under their official registered names."""

import os
from pathlib import Path

from frozenseg.data.coco_stuff import coco_stuff_spec
from frozenseg.data.dataset_spec import DatasetSpec, Part, Scoring
from frozenseg.data.readers.instances import InstanceFile, stem_of_url
from frozenseg.data.readers.label_maps import LabelMaps
from frozenseg.data.readers.panoptic import PanopticFiles, stem_of_city
from frozenseg.data.readers.samples import Task

__all__ = ["SPECS", "DatasetSpec", "Part", "Scoring", "Task", "data_root"]

_COCO_PAGE = "https://cocodataset.org/#download"
_ADE_PAGE = "https://sceneparsing.csail.mit.edu"
_BDD_PAGE = "https://dl.cv.ethz.ch/bdd100k/data"
_VOC_PAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012"
_CONTEXT_PAGE = "https://cs.stanford.edu/~roozbeh/pascal-context"

_PREPARE_COCO = "frozenseg datasets prepare coco"
_PREPARE_ADE = "frozenseg datasets prepare ade20k"
_PREPARE_ADE_FULL = "frozenseg datasets prepare ade20k_full"
_PREPARE_VOC = "frozenseg datasets prepare pascal_voc"
_PREPARE_CONTEXT = "frozenseg datasets prepare pascal_context"
_PREPARE_CITYSCAPES = (
    "CITYSCAPES_DATASET=$DETECTRON2_DATASETS/cityscapes csCreatePanopticImgs --set-names val"
)

SPECS = (
    DatasetSpec(
        name="openvocab_coco_2017_train_panoptic_with_sem_seg",
        title="COCO panoptic, train2017",
        vocabulary="coco_panoptic",
        images="coco/train2017/{}.jpg",
        panoptic=PanopticFiles(
            json="coco/annotations/panoptic_train2017.json", maps="coco/panoptic_train2017"
        ),
        tasks=("panoptic",),
        num_images=118_287,
        page=_COCO_PAGE,
    ),
    DatasetSpec(
        name="openvocab_coco_2017_val_panoptic_with_sem_seg",
        title="COCO panoptic, val2017",
        vocabulary="coco_panoptic",
        images="coco/val2017/{}.jpg",
        panoptic=PanopticFiles(
            json="coco/annotations/panoptic_val2017.json", maps="coco/panoptic_val2017"
        ),
        semantic=LabelMaps(path="coco/panoptic_semseg_val2017/{}.png"),
        instances=InstanceFile(json="coco/annotations/instances_val2017.json"),
        tasks=("panoptic", "instance", "semantic"),
        num_images=5_000,
        page=_COCO_PAGE,
        prepare=_PREPARE_COCO,
        prepared=("semantic",),
    ),
    DatasetSpec(
        name="openvocab_ade20k_panoptic_val",
        title="ADE20K, 150 classes, validation",
        vocabulary="ade20k_150",
        images="ADEChallengeData2016/images/validation/{}.jpg",
        panoptic=PanopticFiles(
            json="ADEChallengeData2016/ade20k_panoptic_val.json",
            maps="ADEChallengeData2016/ade20k_panoptic_val",
            contiguous=True,
        ),
        semantic=LabelMaps(path="ADEChallengeData2016/annotations_detectron2/validation/{}.png"),
        instances=InstanceFile(
            json="ADEChallengeData2016/ade20k_instance_val.json", contiguous=True
        ),
        covered_stuff=True,
        tasks=("panoptic", "instance", "semantic"),
        num_images=2_000,
        page=_ADE_PAGE,
        prepare=_PREPARE_ADE,
        prepared=("panoptic", "semantic", "instances"),
    ),
    DatasetSpec(
        name="openvocab_ade20k_full_sem_seg_val",
        title="ADE20K, 847 classes, validation",
        vocabulary="ade20k_847",
        images="ADE20K_2021_17_01/images_detectron2/validation/{}.jpg",
        semantic=LabelMaps(
            path="ADE20K_2021_17_01/annotations_detectron2/validation/{}.tif", ignore_label=65535
        ),
        tasks=("semantic",),
        num_images=2_000,
        page="https://groups.csail.mit.edu/vision/datasets/ADE20K",
        prepare=_PREPARE_ADE_FULL,
        prepared=("images", "semantic"),
    ),
    DatasetSpec(
        name="openvocab_cityscapes_fine_panoptic_val",
        title="Cityscapes, fine, val",
        vocabulary="cityscapes",
        images="cityscapes/leftImg8bit/val/{}_leftImg8bit.png",
        panoptic=PanopticFiles(
            json="cityscapes/gtFine/cityscapes_panoptic_val.json",
            maps="cityscapes/gtFine/cityscapes_panoptic_val",
            stem_of=stem_of_city,
        ),
        semantic=LabelMaps(path="cityscapes/gtFine/val/{}_gtFine_labelIds.png", own_ids=33),
        instance_ids="cityscapes/gtFine/val/{}_gtFine_instanceIds.png",
        tasks=("panoptic", "instance", "semantic"),
        scoring="cityscapes",
        num_images=500,
        short_side=1024,
        long_side=2560,
        page="https://www.cityscapes-dataset.com",
        prepare=_PREPARE_CITYSCAPES,
        prepared=("panoptic",),
    ),
    DatasetSpec(
        name="openvocab_mapillary_vistas_panoptic_val",
        title="Mapillary Vistas v1.2, validation",
        vocabulary="mapillary_vistas",
        images="mapillary_vistas/validation/images/{}.jpg",
        panoptic=PanopticFiles(
            json="mapillary_vistas/validation/panoptic/panoptic_2018.json",
            maps="mapillary_vistas/validation/panoptic",
        ),
        semantic=LabelMaps(path="mapillary_vistas/validation/labels/{}.png", ignore_label=65),
        tasks=("panoptic", "semantic"),
        num_images=2_000,
        short_side=1024,
        long_side=2560,
        page="https://www.mapillary.com/dataset/vistas",
    ),
    DatasetSpec(
        name="bdd10k_40_panoptic_val",
        title="BDD100K panoptic, 10K val",
        vocabulary="bdd100k_panoptic",
        images="bdd100k/images/10k/val/{}.jpg",
        panoptic=PanopticFiles(
            json="bdd100k/jsons/pan_seg_val_cocofmt.json",
            maps="bdd100k/jsons/pan_seg/masks/val",
            void_categories=(0,),
        ),
        tasks=("panoptic",),
        num_images=1_000,
        object_threshold=0.4,
        page=_BDD_PAGE,
    ),
    DatasetSpec(
        name="bdd10k_val_sem_seg",
        title="BDD100K semantic, 10K val",
        vocabulary="bdd100k_semantic",
        images="bdd100k/images/10k/val/{}.jpg",
        semantic=LabelMaps(path="bdd100k/labels/sem_seg/masks/val/{}.png"),
        tasks=("semantic",),
        num_images=1_000,
        page=_BDD_PAGE,
    ),
    DatasetSpec(
        name="openvocab_pascal_ctx459_sem_seg_val",
        title="PASCAL-Context, 459 classes, validation",
        vocabulary="pascal_context_459",
        images="pascal_ctx_d2/images/validation/{}.jpg",
        semantic=LabelMaps(
            path="pascal_ctx_d2/annotations_ctx459/validation/{}.tif", ignore_label=65535
        ),
        tasks=("semantic",),
        num_images=5_104,
        page=_CONTEXT_PAGE,
        prepare=_PREPARE_CONTEXT,
        prepared=("images", "semantic"),
    ),
    DatasetSpec(
        name="openvocab_pascal_ctx59_sem_seg_val",
        title="PASCAL-Context, 59 classes, validation",
        vocabulary="pascal_context_59",
        images="pascal_ctx_d2/images/validation/{}.jpg",
        semantic=LabelMaps(path="pascal_ctx_d2/annotations_ctx59/validation/{}.png"),
        tasks=("semantic",),
        num_images=5_104,
        page=_CONTEXT_PAGE,
        prepare=_PREPARE_CONTEXT,
        prepared=("images", "semantic"),
    ),
    DatasetSpec(
        name="openvocab_pascal21_sem_seg_val",
        title="PASCAL VOC 2012, 20 classes and background, val",
        vocabulary="pascal_voc_21",
        images="pascal_voc_d2/images/validation/{}.jpg",
        semantic=LabelMaps(path="pascal_voc_d2/annotations_pascal21/validation/{}.png"),
        tasks=("semantic",),
        num_images=1_449,
        page=_VOC_PAGE,
        prepare=_PREPARE_VOC,
        prepared=("images", "semantic"),
    ),
    DatasetSpec(
        name="openvocab_pascal20_sem_seg_val",
        title="PASCAL VOC 2012, 20 classes, val",
        vocabulary="pascal_voc_20",
        images="pascal_voc_d2/images/validation/{}.jpg",
        semantic=LabelMaps(path="pascal_voc_d2/annotations_pascal20/validation/{}.png"),
        tasks=("semantic",),
        num_images=1_449,
        page=_VOC_PAGE,
        prepare=_PREPARE_VOC,
        prepared=("images", "semantic"),
    ),
    DatasetSpec(
        name="openvocab_lvis_v1_val",
        title="LVIS v1, val",
        vocabulary="lvis_v1",
        images="coco/{}.jpg",
        instances=InstanceFile(json="lvis/lvis_v1_val.json", stem_of=stem_of_url, federated=True),
        tasks=("instance",),
        scoring="lvis",
        num_images=19_809,
        trained_on_things=True,
        page="https://www.lvisdataset.org/dataset",
        image_page=_COCO_PAGE,
    ),
    coco_stuff_spec("train"),
    coco_stuff_spec("val"),
    coco_stuff_spec("train", num_classes=156),
    coco_stuff_spec("val", num_classes=156),
)


def data_root() -> Path:
    """The folder of all data sets: ``$DETECTRON2_DATASETS``, else ``./datasets``."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
