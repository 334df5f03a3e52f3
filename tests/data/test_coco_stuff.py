"""COCO-Stuff as published: raw label maps of 171 classes, or of 156."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from frozenseg.data.checking import check_dataset
from frozenseg.data.coco_stuff import coco_stuff_spec
from frozenseg.data.datasets import assemble
from frozenseg.vocabulary import builtin_vocabulary, class_table
from tests.fixtures.ovseg import write_coco_stuff

ABSENT = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
LEFT_OUT = (
    "cow, giraffe, suitcase, frisbee, skateboard, carrot, scissors, cardboard, clouds, grass, "
    "playingfield, river, road, tree, wall-concrete"
)


def write(root: Path, values: list[int]) -> None:
    pixels = np.array([values], dtype=np.uint8)
    for name, content in (
        ("train2017/000000000009.jpg", np.zeros((1, len(values), 3), dtype=np.uint8)),
        ("stuffthingmaps/train2017/000000000009.png", pixels),
    ):
        path = root / "coco" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(content).save(path)


def read(root: Path, num_classes) -> list[int]:
    spec = coco_stuff_spec("train", num_classes=num_classes)
    samples = assemble(spec, root, panoptic=None, instances=None, tasks=spec.tasks, skip_bad=False)
    assert samples[0].image_id == "000000000009"
    assert samples[0].semantic.dtype == torch.int64
    return samples[0].semantic[0].tolist()


def test_ids_close_up_over_the_values_that_do_not_occur() -> None:
    ids = [row.dataset_id for row in class_table("coco_stuff_171")]
    assert ids == sorted(set(range(182)) - ABSENT)


def test_a_map_is_read_as_class_ids(tmp_path: Path) -> None:
    write(tmp_path, [0, 10, 12, 24, 26, 89, 91, 181, 255])
    assert read(tmp_path, 171) == [0, 10, 11, 23, 24, 79, 80, 170, 255]
    names = builtin_vocabulary("coco_stuff_171").names
    assert [names[i] for i in (0, 11, 79, 80, 170)] == [
        *("person", "stop sign", "toothbrush", "banner", "wood")
    ]


def test_the_smaller_set_ignores_its_fifteen_classes(tmp_path: Path) -> None:
    all_names = builtin_vocabulary("coco_stuff_171").names
    names = builtin_vocabulary("coco_stuff_156").names
    left_out = LEFT_OUT.split(", ")
    assert names == tuple(name for name in all_names if name not in left_out)
    values = {row.name: row.dataset_id for row in class_table("coco_stuff_171")}
    write(tmp_path, [values["cow"], values["sheep"], values["elephant"], values["tree"]])
    assert read(tmp_path, 156) == [255, names.index("sheep"), names.index("elephant"), 255]
    assert names.index("elephant") == names.index("sheep") + 1


def test_things_are_those_of_coco() -> None:
    stuff = builtin_vocabulary("coco_stuff_171")
    coco = builtin_vocabulary("coco_panoptic")
    rows = zip(class_table("coco_panoptic"), coco.is_thing, strict=True)
    things = [row.name for row, thing in rows if thing]
    assert list(stuff.things().names) == things


def test_names_of_the_data_set() -> None:
    spec = coco_stuff_spec("train")
    assert (spec.name, spec.num_images) == ("coco_2017_train_stuff_sem_seg", 118_287)
    assert coco_stuff_spec("val", num_classes=156).name == "coco_2017_val_stuff156_sem_seg"


def test_datasets_check_reads_a_sample_and_counts_files(tmp_path: Path) -> None:
    write_coco_stuff(tmp_path, "val")
    result = check_dataset("coco_2017_val_stuff_sem_seg", root=tmp_path, every=True)
    assert result.problems == () and result.num_read == 2
    found = {finding.what: (finding.found, finding.expected) for finding in result.findings}
    assert found == {"images": (2, 5000), "label maps": (2, 5000)}
    (tmp_path / "coco/stuffthingmaps/val2017/000000000001.png").unlink()
    result = check_dataset("coco_2017_val_stuff_sem_seg", root=tmp_path, every=True)
    assert "000000000001" in result.problems[0] and result.num_read == 1
