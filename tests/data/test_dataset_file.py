"""Own data sets: what their files may say, and what samples come of it, by hand."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from frozenseg.data import registry
from frozenseg.data.catalog import (
    dataset_name,
    dataset_samples,
    dataset_spec,
    dataset_vocabulary,
    own_test_size,
    register_dataset,
    training_samples,
    training_vocabulary,
)
from frozenseg.data.checking import check_dataset
from frozenseg.errors import UserError

CATEGORIES = [{"id": 4, "name": "player"}, {"id": 9, "name": "lawn", "isthing": 0}]
BOX = [0, 0, 2, 0, 2, 2, 0, 2]  # the four pixels in the upper left corner


def image_entry(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": 3, "width": 4}


def instance_json() -> dict[str, Any]:
    lawn = {"size": [3, 4], "counts": [2, 1, 2, 1, 2, 1, 2, 1]}  # the last row
    return {
        "images": [image_entry(1, "a.jpg"), image_entry(2, "far/b.png")],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 4, "segmentation": [BOX], "area": 999},
            {"id": 2, "image_id": 1, "category_id": 9, "segmentation": lawn},
        ],
        "categories": CATEGORIES,
    }


def panoptic_json() -> dict[str, Any]:
    def segment(number: int, category: int) -> dict[str, Any]:
        return {"id": number, "category_id": category, "area": 10**30, "iscrowd": 0}

    return {
        "images": [image_entry(1, "a.jpg"), image_entry(2, "far/b.png")],
        "annotations": [
            {"image_id": 1, "file_name": "a.png", "segments_info": [segment(7, 4), segment(8, 9)]},
            {"image_id": 2, "file_name": "b.png", "segments_info": []},
        ],
        "categories": CATEGORIES,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 4 x 3 pixels, with a panoptic and an instance annotation."""
    (tmp_path / "photos/far").mkdir(parents=True)
    (tmp_path / "maps").mkdir()
    for name in ("a.jpg", "far/b.png"):
        Image.new("RGB", (4, 3), (200, 10, 10)).save(tmp_path / "photos" / name)
    ids = np.array([[7, 7, 0, 0], [7, 7, 0, 0], [8, 8, 8, 8]], np.uint8)
    zeros = np.zeros_like(ids)
    Image.fromarray(np.stack([ids, zeros, zeros], -1)).save(tmp_path / "maps/a.png")
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "maps/b.png")
    (tmp_path / "instances.json").write_text(json.dumps(instance_json()))
    (tmp_path / "panoptic.json").write_text(json.dumps(panoptic_json()))
    return tmp_path


PANOPTIC = {"panoptic": {"json": "panoptic.json", "maps": "maps"}}
INSTANCES = {"instances": "instances.json"}


def write(folder: Path, **keys: Any) -> str:
    """A data set file; returns its path."""
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({"images": "photos", **keys}, sort_keys=False))
    return str(path)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_panoptic_annotation_offers_all_tasks(folder: Path) -> None:
    name = write(folder, name="football", **PANOPTIC)
    samples = dataset_samples(name)
    assert dataset_name(name) == "football" and len(samples) == 2
    first, second = samples
    assert first.panoptic is not None and first.semantic is not None
    assert [(s.id, s.class_id, s.is_thing, s.area) for s in first.panoptic.segments] == [
        (7, 0, True, 4),  # the file states 10**30
        (8, 1, False, 4),
    ]
    assert first.semantic.tolist() == [[0, 0, 255, 255], [0, 0, 255, 255], [1, 1, 1, 1]]
    assert first.instances is None  # things of the panoptic map, as for Cityscapes
    assert second.file_name.endswith("photos/far/b.png")
    assert dataset_spec(name).tasks == ("panoptic", "semantic", "instance")


def test_instances_alone_are_evaluated_and_trained_on(folder: Path) -> None:
    name = write(folder, **INSTANCES)
    first, second = dataset_samples(name)
    assert first.panoptic is not None and first.instances is not None
    assert first.panoptic.ids.tolist() == [[2, 2, 0, 0], [2, 2, 0, 0], [1, 1, 1, 1]]
    (player,) = first.instances  # the lawn is stuff
    assert player.class_id == 0 and player.mask.sum() == 4 and player.area is None
    assert second.panoptic is not None and second.panoptic.segments == ()
    assert second.instances == ()
    assert training_samples(name)[0].panoptic is not None
    assert dataset_spec(name).tasks == ("panoptic", "instance")


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "palette", "tiff"])
def test_label_maps_of_any_depth(folder: Path, kind: str) -> None:
    values = np.array([[0, 5, 5, 5], [0, 0, 0, 0], [255] * 4])
    picture = Image.fromarray(values.astype(np.uint16 if kind == "16 bits" else np.uint8))
    if kind == "palette":
        picture.putpalette([7, 8, 9] * 256)
    ending = ".tif" if kind == "tiff" else ".png"
    (folder / "labels/far").mkdir(parents=True)
    for stem in ("a", "far/b"):
        picture.save(folder / f"labels/{stem}{ending}")
    labels = "labels" if kind != "tiff" else "labels/{}.tif"
    classes = {"wall": [], "crack": {"synonyms": ["fissure"], "id": 5}}
    name = write(folder, labels=labels, classes=classes)
    first, _ = dataset_samples(name)
    assert first.semantic is not None and first.panoptic is None
    assert first.semantic.tolist() == [[0, 1, 1, 1], [0] * 4, [255] * 4]
    assert dataset_vocabulary(name).synonyms == (("wall",), ("crack", "fissure"))
    assert dataset_spec(name).tasks == ("semantic",)
    trained = training_samples(name)[0].panoptic
    assert trained is not None
    assert [(each.class_id, each.area) for each in trained.segments] == [(0, 5), (1, 3)]


@pytest.mark.parametrize(("second", "label"), [(None, 1), ({"id": 255}, 1), ({"id": 2}, 255)])
def test_one_bit_label_maps(folder: Path, second: object, label: int) -> None:
    """1 where ids are 0 and 1; 255 otherwise, which is a class or unlabelled."""
    (folder / "labels/far").mkdir(parents=True)
    for stem in ("a", "far/b"):
        Image.fromarray(np.arange(12).reshape(3, 4) >= 6).save(folder / f"labels/{stem}.png")
    ignore = {"ignore_label": 100} if second == {"id": 255} else {}
    name = write(folder, labels="labels", classes={"wall": [], "crack": second}, **ignore)
    semantic = dataset_samples(name)[0].semantic
    assert semantic is not None and semantic.flatten().tolist() == [0] * 6 + [label] * 6


def test_instances_stand_before_the_stuff_of_label_maps(folder: Path) -> None:
    (folder / "labels/far").mkdir(parents=True)
    for stem in ("a", "far/b"):
        Image.fromarray(np.full((3, 4), 9, np.uint8)).save(folder / f"labels/{stem}.png")
    first, _ = dataset_samples(write(folder, labels="labels", **INSTANCES))
    assert first.panoptic is not None and first.semantic is not None
    assert first.panoptic.ids.tolist() == [[2, 2, 1, 1], [2, 2, 1, 1], [1, 1, 1, 1]]
    assert first.semantic.unique().tolist() == [1]  # category 9 is class 1


def test_synonyms_and_the_annotations_names(folder: Path) -> None:
    classes = {"player": ["athlete"], "lawn": {"synonyms": "grass", "stuff": True}}
    vocabulary = dataset_vocabulary(write(folder, classes=classes, **INSTANCES))
    assert vocabulary.synonyms == (("player", "athlete"), ("lawn", "grass"))
    assert vocabulary.is_thing == (True, False)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"player": []}, "only the annotation has lawn"),
        (["player", "lawn", "ball"], "only 'classes' has ball"),
        ({"player": [], "grass": []}, "only 'classes' has grass; only the annotation has lawn"),
        ({"player": [], "lawn": {"stuff": False}}, "'lawn' is stuff in the annotation"),
        ({"player": {"id": 5}, "lawn": []}, "'player' has the id 4 in the annotation"),
    ],
)
def test_a_class_list_that_disagrees_stops_with_the_difference(
    folder: Path, classes, message: str
) -> None:
    with pytest.raises(UserError, match=rf"own\.yaml and the categories of .*{message}"):
        dataset_samples(write(folder, classes=classes, **INSTANCES))


def test_two_annotation_files_must_agree(folder: Path) -> None:
    edit(folder / "instances.json", lambda c: c["categories"][0].update(name="referee"))
    with pytest.raises(UserError, match="id 4 is 'referee', not 'player'"):
        dataset_samples(write(folder, **PANOPTIC, **INSTANCES))


def test_unseen_classes_are_not_trained_on(folder: Path) -> None:
    name = write(folder, unseen=["player"], **PANOPTIC)
    assert training_vocabulary(name).names == ("lawn",)
    assert dataset_vocabulary(name).names == ("player", "lawn")
    samples = training_samples(name)
    assert len(samples) == 2 and samples[0].panoptic is not None
    assert [(each.id, each.class_id) for each in samples[0].panoptic.segments] == [(8, 0)]
    evaluated = dataset_samples(name)[0].panoptic
    assert evaluated is not None and len(evaluated.segments) == 2


def test_test_size_and_other_places(folder: Path, tmp_path: Path) -> None:
    assert own_test_size(write(folder, **PANOPTIC)) is None
    assert own_test_size(write(folder, test_size=[640, 480], **PANOPTIC)) == (480, 640)
    assert own_test_size("bdd10k_val_sem_seg") is None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = elsewhere / "own.yml"
    path.write_text(yaml.safe_dump({"root": "..", "images": str(folder / "photos"), **PANOPTIC}))
    assert len(dataset_samples(str(path))) == 2 and dataset_name(str(path)) == "own"


def test_a_registered_name_works_until_the_process_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    name = register_dataset(write(folder, name="football", **PANOPTIC))
    assert name == "football" and register_dataset(folder / "own.yaml") == "football"
    assert len(dataset_samples("football")) == 2
    with pytest.raises(UserError, match="another data set has the name 'football'"):
        register_dataset(write(folder, name="football", **INSTANCES))
    with pytest.raises(UserError, match="another data set has the name 'bdd10k_val_sem_seg'"):
        register_dataset(write(folder, name="bdd10k_val_sem_seg", **INSTANCES))
    with pytest.raises(UserError, match="did you mean football"):
        dataset_spec("footbal")


def test_a_changed_file_is_read_again(folder: Path) -> None:
    name = write(folder, **INSTANCES)
    assert dataset_vocabulary(name).names == ("player", "lawn")
    edit(folder / "instances.json", lambda c: c["categories"][0].update(name="goalkeeper"))
    assert dataset_vocabulary(name).names == ("goalkeeper", "lawn")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "it has no annotation: give 'panoptic', 'instances' or 'labels'"),
        ({"instance": "instances.json"}, "unknown key 'instance': did you mean 'instances'"),
        ({"instances": 7}, "'instances' must have json, got 7"),
        ({"instances": {"jsn": "x"}}, "'instances' must have json"),
        ({"panoptic": "panoptic.json"}, "'panoptic' must have json and maps"),
        ({**INSTANCES, "images": None}, "'images' must be a path, got None"),
        ({**INSTANCES, "images": "{}/{}"}, "'images' must not have braces"),
        ({**INSTANCES, "name": "a/b"}, "'name' must consist of"),
        ({**INSTANCES, "name": ".."}, "'name' must consist of"),
        ({**INSTANCES, "title": 3}, "'title' must be text"),
        ({**INSTANCES, "unseen": ["ball"]}, "'unseen' must be a list of classes"),
        ({**INSTANCES, "unseen": ["player", "lawn"]}, "'unseen' lists every class"),
        ({**INSTANCES, "ignore_label": -1}, "'ignore_label' must be from 0 to 65535"),
        ({**INSTANCES, "test_size": 640}, r"'test_size' must be \[short side, long side\]"),
        ({**INSTANCES, "test_size": [0, 640]}, "'test_size' must be"),
        ({**INSTANCES, "exif": True}, "'exif' must be apply or ignore"),
        ({**INSTANCES, "classes": "players.txt"}, "'classes' must be a list of names"),
        ({**INSTANCES, "classes": {"player": 7}}, "the class 'player' has 7: write a list"),
        ({**INSTANCES, "classes": {"player": {"stuf": True}}}, "the class 'player' has"),
        (
            {**INSTANCES, "classes": {"player": [], "lawn": ["player"]}},
            "'player' is a name or synonym of both 'player' and 'lawn'",
        ),
        ({"labels": "maps"}, "label maps but no classes"),
        ({"labels": "maps", "classes": {"a": {"id": 255}}}, "not the ignore_label 255"),
        ({"labels": "maps", "classes": {"a": {"id": 70000}}}, "at most 65535"),
        ({"labels": "maps", "classes": {"a": {"id": 1}, "b": None}}, "two classes have the id 1"),
        ({"instances": "gone.json"}, "no annotation file .*gone.json"),
    ],
)
def test_mistakes_in_the_file_are_one_sentence(folder: Path, keys: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        dataset_samples(write(folder, **keys))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "[1, 2]", "a: [", "a: &x\nb: *x\n", "é: é"])
def test_what_is_no_data_set_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"own\.yaml"):
        dataset_samples(str(tmp_path / "own.yaml"))
    with pytest.raises(UserError, match=r"no data set file .*gone\.yaml"):
        dataset_samples(str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "link.png"])
def test_no_image_or_map_outside_of_its_folder_is_read(folder: Path, name: str) -> None:
    Image.new("RGB", (4, 3)).save(folder / "secret.png")
    (folder / "photos/link.png").symlink_to(folder / "secret.png")
    (folder / "maps/link.png").symlink_to(folder / "secret.png")
    edit(folder / "instances.json", lambda c: c["images"][0].update(file_name=name))
    with pytest.raises(UserError, match=r"file .*which (climbs|is absolute|is a link)"):
        dataset_samples(write(folder, **INSTANCES))[0]
    edit(folder / "panoptic.json", lambda c: c["annotations"][0].update(file_name=name))
    with pytest.raises(UserError, match=r"file .*which (climbs|is absolute|is a link)"):
        dataset_samples(write(folder, **PANOPTIC))[0]


class TestFaults:
    """Raised one by one, listed all at once, or left out and counted."""

    @pytest.fixture
    def name(self, folder: Path) -> str:
        def spoil(content: dict) -> None:
            content["annotations"][0]["segmentation"] = [[0, 0, 1]]
            content["annotations"].append({"id": 3, "image_id": 2, "category_id": 77})
            content["annotations"].append(dict(content["annotations"][1], id=4, iscrowd="no"))
            content["images"].append(image_entry(3, "gone.jpg"))

        edit(folder / "instances.json", spoil)
        return write(folder, **INSTANCES)

    def test_the_first_one_stops(self, name: str) -> None:
        with pytest.raises(
            UserError, match=r"instances\.json: annotations\[0\] \(id 1, image 1\) has a polygon"
        ):
            dataset_samples(name)

    def test_check_lists_them_all(self, name: str) -> None:
        check = check_dataset(name)
        assert not check.ok and check.num_read == 2
        (polygon, category, crowd, missing) = check.problems
        assert "annotations[0] (id 1, image 1) has a polygon of 3 coordinates" in polygon
        assert "annotations[2] (id 3, image 2) has the unknown category 77" in category
        assert "annotations[3] (id 4, image 1) must have 0 or 1 as 'iscrowd', got 'no'" in crowd
        assert missing.endswith("gone.jpg is missing")

    def test_skipping_leaves_them_out_and_counts_them(
        self, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            samples = dataset_samples(name, skip_bad=True)
        assert len(samples) == 2 and len(samples.skipped) == 4
        assert "4 bad entries or files are left out" in caplog.text
        first = samples[0]
        assert first.panoptic is not None and len(first.panoptic.segments) == 1

    def test_a_sound_data_set_has_none(self, folder: Path) -> None:
        check = check_dataset(write(folder, **PANOPTIC, **INSTANCES))
        assert check.ok and check.num_read == 2 and check.problems == ()


class TestSizes:
    """An image and its annotation must have one size and one orientation."""

    def turn(self, folder: Path, orientation: int, size: tuple[int, int] = (4, 3)) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", size).save(folder / "photos/a.jpg", exif=exif)

    @pytest.mark.parametrize("keys", [PANOPTIC, INSTANCES])
    def test_a_turned_image_is_named_with_the_way_out(self, folder: Path, keys: dict) -> None:
        self.turn(folder, 6)  # 4 x 3 as stored, 3 x 4 upright
        with pytest.raises(
            UserError,
            match=r"EXIF tag probably turns it.*'exif' in .frozenseg datasets check --help",
        ):
            dataset_samples(write(folder, **keys))[0]
        assert dataset_samples(write(folder, exif="ignore", **keys))[0].image.shape == (3, 3, 4)
        self.turn(folder, 6, (3, 4))  # the masks follow it
        assert dataset_samples(write(folder, **keys))[0].image.shape == (3, 3, 4)

    @pytest.mark.parametrize("orientation", [2, 3, 4])
    def test_where_the_size_does_not_tell_the_user_is_asked(
        self, folder: Path, orientation: int
    ) -> None:
        self.turn(folder, orientation)
        with pytest.raises(UserError, match="set 'exif: apply' or 'exif: ignore'"):
            dataset_samples(write(folder, **PANOPTIC))[0]
        for exif in ("apply", "ignore"):
            assert dataset_samples(write(folder, exif=exif, **PANOPTIC))[0].panoptic is not None

    def test_an_image_that_was_resized_is_refused(self, folder: Path) -> None:
        Image.new("RGB", (8, 6)).save(folder / "photos/a.jpg")
        with pytest.raises(UserError, match=r"states 4 x 3 pixels for image 1, but it has 8 x 6"):
            dataset_samples(write(folder, **INSTANCES))[0]

    def test_without_stated_sizes_masks_are_checked_when_they_are_read(self, folder: Path) -> None:
        edit(
            folder / "instances.json",
            lambda c: [image.pop(key) for image in c["images"] for key in ("height", "width")],
        )
        Image.new("RGB", (8, 6)).save(folder / "photos/a.jpg")
        with pytest.raises(UserError, match=r"annotations\[1\] \(image 1\) has run lengths"):
            dataset_samples(write(folder, **INSTANCES))[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["annotations"].__setitem__(0, None),
        lambda c: c["annotations"].__setitem__(0, []),
        lambda c: c["annotations"][0].__setitem__("image_id", []),
        lambda c: c["annotations"][0].__setitem__("file_name", None),
        lambda c: c["annotations"][0].__setitem__("segments_info", {}),
        lambda c: c["annotations"][0]["segments_info"][0].__setitem__("id", "7"),
        lambda c: c["annotations"][0]["segments_info"][0].__setitem__("id", 0),
        lambda c: c["annotations"][0]["segments_info"][0].__setitem__("id", 1 << 24),
        lambda c: c["annotations"][0]["segments_info"][0].__setitem__("id", True),
        lambda c: c["annotations"][0]["segments_info"][0].__setitem__("category_id", None),
        lambda c: c["annotations"][0]["segments_info"][0].__setitem__("iscrowd", "0"),
        lambda c: c["annotations"].pop(),
        lambda c: c["images"][0].__setitem__("height", -3),
        lambda c: c["images"].pop(),
    ],
)
def test_wrong_types_and_ranges_in_a_panoptic_file(folder: Path, change) -> None:
    edit(folder / "panoptic.json", change)
    with pytest.raises(UserError, match=r"panoptic\.json: "):
        dataset_samples(write(folder, **PANOPTIC))


def test_samples_can_be_sent_to_workers(folder: Path) -> None:
    samples = training_samples(write(folder, unseen=["player"], **PANOPTIC))
    loader = torch.utils.data.DataLoader(
        samples, batch_size=None, num_workers=1, multiprocessing_context="fork"
    )
    assert len(list(loader)) == 2
