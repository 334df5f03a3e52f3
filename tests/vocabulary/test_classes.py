"""The class lists that ship with the package."""

import pytest

from frozenseg.vocabulary import (
    Vocabulary,
    builtin_names,
    builtin_vocabulary,
    class_table,
    parse_vocabulary,
)
from frozenseg.vocabulary.class_tables import CLASSES

SIZES = {  # classes, things (where the data set says which they are)
    "coco_panoptic": (133, 80),
    "coco_stuff_171": (171, 80),
    "coco_stuff_156": (156, 73),
    "ade20k_150": (150, 100),
    "ade20k_847": (847, None),
    "cityscapes": (19, 8),
    "mapillary_vistas": (65, 37),
    "bdd100k_panoptic": (40, 10),
    "bdd100k_semantic": (19, 8),
    "pascal_context_59": (59, None),
    "pascal_context_459": (459, None),
    "pascal_voc_20": (20, 20),
    "pascal_voc_21": (21, 20),
    "lvis_v1": (1203, 1203),
}

# Official names on both sides, split at commas: (seen, of all) without any synonym of ours.
SEEN_BY_OFFICIAL_NAMES = {
    "coco_panoptic": 133,
    "ade20k_150": 39,
    "ade20k_847": 71,
    "cityscapes": 9,
    "mapillary_vistas": 0,
    "bdd100k_panoptic": 11,
    "bdd100k_semantic": 9,
    "pascal_context_59": 27,
    "pascal_context_459": 55,
    "pascal_voc_20": 14,
    "pascal_voc_21": 14,
    "lvis_v1": 56,
}


def official(name: str) -> Vocabulary:
    names = [row.name for row in class_table(name)]
    return Vocabulary(
        tuple(tuple(part.strip() for part in official_name.split(",")) for official_name in names),
        (True,) * len(names),
    )


def seen(name: str) -> dict[str, bool]:
    vocabulary = builtin_vocabulary(name)
    return dict(
        zip(vocabulary.names, vocabulary.seen_by(builtin_vocabulary("coco_panoptic")), strict=True)
    )


def test_every_data_set_has_a_list() -> None:
    assert set(builtin_names()) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_a_list_agrees_with_its_table(name: str) -> None:
    vocabulary = builtin_vocabulary(name)
    num_classes, num_things = SIZES[name]
    assert len(vocabulary) == len(class_table(name)) == num_classes
    assert num_things is None or sum(vocabulary.is_thing) == num_things
    ids = [row.dataset_id for row in class_table(name)]
    assert len(set(ids)) == num_classes


@pytest.mark.parametrize("name", SIZES)
def test_a_list_copied_elsewhere_reads_the_same(name: str, tmp_path) -> None:
    copy = tmp_path / "my_classes.txt"
    copy.write_text((CLASSES / f"{name}.txt").read_text())
    read = parse_vocabulary(copy)
    assert read.synonyms == builtin_vocabulary(name).synonyms
    assert read.is_thing == builtin_vocabulary(name).is_thing


@pytest.mark.parametrize(("name", "count"), SEEN_BY_OFFICIAL_NAMES.items())
def test_seen_classes_by_official_names_alone(name: str, count: int) -> None:
    assert sum(official(name).seen_by(official("coco_panoptic"))) == count


def test_colours_are_the_data_sets_own() -> None:
    coco = builtin_vocabulary("coco_panoptic")
    assert coco.colors is not None and coco.colors[0] == (220, 20, 60)
    assert builtin_vocabulary("pascal_context_59").colors is None


def test_lvis_classes_know_how_rare_they_are() -> None:
    frequencies = [row.frequency for row in class_table("lvis_v1")]
    assert [frequencies.count(each) for each in "rcf"] == [337, 461, 405]


def test_what_is_in_coco_under_another_word_is_seen() -> None:
    ade = seen("ade20k_150")
    assert all(
        ade[name] for name in ("sofa", "motorbike", "refrigerator", "sidewalk", "lamp", "sea")
    )
    assert not any(
        ade[name] for name in ("chandelier", "escalator", "wardrobe", "waterfall", "flag")
    )
    cityscapes = seen("cityscapes")
    assert [name for name in cityscapes if not cityscapes[name]] == ["pole", "rider"]
    assert all(seen("pascal_voc_21").values())


def test_no_rare_lvis_class_is_seen() -> None:
    """APr is an average over unseen classes."""
    lvis = seen("lvis_v1")
    rows = class_table("lvis_v1")
    assert not any(
        known for known, row in zip(lvis.values(), rows, strict=True) if row.frequency == "r"
    )
    assert lvis["person"] and lvis["wineglass"]


def test_detectron2_names_42_of_ade20ks_classes_shorter() -> None:
    short, full = class_table("ade20k_150_short"), class_table("ade20k_150")
    assert [(row.dataset_id, row.color) for row in short] == [
        (row.dataset_id, row.color) for row in full
    ]
    different = [(a.name, b.name) for a, b in zip(short, full, strict=True) if a.name != b.name]
    assert len(different) == 42
    assert different[:3] == [
        ("building", "building, edifice"),
        ("floor", "floor, flooring"),
        ("window", "windowpane, window"),
    ]
