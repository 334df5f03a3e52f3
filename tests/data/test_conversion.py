"""LabelMe and YOLO become data set files, by hand."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from frozenseg.data.catalog import dataset_samples, dataset_vocabulary
from frozenseg.data.checking import check_dataset
from frozenseg.data.conversion.write import convert_dataset
from frozenseg.errors import UserError

SQUARE = [[1, 1], [5, 1], [5, 3], [1, 3]]  # eight pixels


def shape(label: str, points: Sequence[object] = SQUARE, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": "polygon", **more}


def write_labelme(folder: Path, stem: str, shapes: Sequence[object], **more: Any) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (12, 8)).save(folder / f"{stem}.jpg")
    content = {"imagePath": f"{stem}.jpg", "imageHeight": 8, "imageWidth": 12, "shapes": shapes}
    (folder / f"{stem}.json").write_text(json.dumps(content | more))


def test_labelme_shapes_become_objects(tmp_path: Path) -> None:
    two = [shape("car", group_id=1), shape("car", [[6, 4], [8, 4], [8, 6]], group_id=1)]
    box = shape("lawn", [[0, 0], [12, 8]], shape_type="rectangle")
    disc = shape("ball", [[6, 4], [6, 6]], shape_type="circle")
    write_labelme(tmp_path / "photos", "a", [box, *two, disc])
    write_labelme(tmp_path / "photos", "b", [])
    output = tmp_path / "sets/own.yaml"
    done = convert_dataset(tmp_path / "photos", output, stuff=["lawn"])
    assert (done.num_images, done.num_objects, done.num_classes) == (2, 3, 3)
    assert dataset_vocabulary(str(output)).names == ("ball", "car", "lawn")
    assert dataset_vocabulary(str(output)).is_thing == (True, True, False)
    first, second = dataset_samples(str(output))
    assert second.instances == ()
    assert first.instances is not None and first.panoptic is not None
    areas = {each.class_id: int(each.mask.sum()) for each in first.instances}
    assert areas[1] in (9, 10, 11)  # both parts: eight pixels and a triangle of about two
    assert areas[0] == pytest.approx(math.pi * 4, abs=2)
    content = json.loads(output.with_suffix(".json").read_text())
    assert content["annotations"][0]["area"] == 96 and content["annotations"][0]["bbox"][2:] == [
        12,
        8,
    ]
    assert check_dataset(str(output)).ok


def test_labelme_images_may_be_elsewhere(tmp_path: Path) -> None:
    write_labelme(tmp_path / "images", "a", [shape("car")], imagePath="..\\old\\a.jpg")
    (tmp_path / "json").mkdir()
    (tmp_path / "images/a.json").rename(tmp_path / "json/a.json")
    with pytest.raises(UserError, match=r"a\.json: .*climbs out of its folder: give --images"):
        convert_dataset(tmp_path / "json", tmp_path / "own.yaml")
    convert_dataset(tmp_path / "json", tmp_path / "own.yaml", images=tmp_path / "images")
    assert len(dataset_samples(str(tmp_path / "own.yaml"))) == 1


@pytest.mark.parametrize(
    ("shapes", "more", "message"),
    [
        ([shape("car", [[1, 1], [5, 1]])], {}, r"shapes\[0\] has a polygon of 2 points"),
        ([shape("", SQUARE)], {}, r"shapes\[0\] must have text as 'label'"),
        ([shape("car", [[1, 1], [5], [2, 2]])], {}, r"the point \[5\]"),
        ([shape("car", [[1, 1], [5, 5]], shape_type="line")], {}, "'line' of 2 points"),
        ([shape("car", [[1e9, 1], [5, 5], [5, 0]])], {}, "far outside"),
        ([None], {}, r"shapes\[0\] must be an object"),
        (7, {}, "a list 'shapes'"),
        ([shape("car")], {"imageHeight": 12, "imageWidth": 8}, "was drawn on an image of"),
        ([shape("car")], {"imagePath": "gone.jpg"}, "no image file"),
    ],
)
def test_labelme_faults(tmp_path: Path, shapes, more: dict, message: str) -> None:
    write_labelme(tmp_path / "photos", "a", shapes, **more)
    write_labelme(tmp_path / "photos", "b", [shape("car")])
    with pytest.raises(UserError, match=message):
        convert_dataset(tmp_path / "photos", tmp_path / "own.yaml")
    assert not (tmp_path / "own.yaml").exists()


def test_faults_are_left_out_and_told(tmp_path: Path) -> None:
    write_labelme(tmp_path / "photos", "a", [shape("car"), shape("car", [[1, 1]])])
    done = convert_dataset(tmp_path / "photos", tmp_path / "own.yaml", skip_bad=True)
    assert done.num_objects == 1
    (fault,) = done.faults
    assert "a.json: shapes[1] has a polygon of 1 points" in fault


def write_yolo(root: Path, lines: str, names: str = "names: [car, ball]\n") -> Path:
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True)
    for stem in ("a", "b"):
        Image.new("RGB", (12, 8)).save(root / f"images/train/{stem}.png")
    (root / "labels/train/a.txt").write_text(lines)
    (root / "data.yaml").write_text(names)
    return root / "labels/train"


@pytest.mark.parametrize("names", ["names: [car, ball]\n", "names: {0: car, 1: ball}\n"])
def test_yolo_polygons_are_fractions_of_the_image(tmp_path: Path, names: str) -> None:
    labels = write_yolo(tmp_path / "yolo", "1 0 0 0.5 0 0.5 0.5 0 0.5\n\n", names)
    output = tmp_path / "own.yaml"
    done = convert_dataset(labels, output)
    assert (done.num_images, done.num_objects, done.num_classes) == (2, 1, 2)
    first, second = dataset_samples(str(output))
    (ball,) = first.instances or ()
    assert ball.class_id == 1 and ball.mask[:4, :6].all() and ball.mask.sum() == 24
    assert second.instances == ()


@pytest.mark.parametrize(
    ("lines", "names", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "names: [car]", r"a\.txt: line 1 has a box"),
        ("3 0 0 1 0 1 1", "names: [car]", "line 1 has the class '3': there are 0 to 0"),
        ("0 0 0 1 0 1", "names: [car]", "line 1 has 5 coordinates"),
        ("\n0 0 0 1 0 120 1", "names: [car]", "line 2 has the coordinate 120.0"),
        ("0 0 0 1 0 nan 1", "names: [car]", "line 1 has the coordinate nan"),
        ("0 0 0 1 0 x 1", "names: [car]", "not a number"),
        ("0 0 0 1 0 1 1", "nc: 1", "must have a list 'names'"),
        ("0 0 0 1 0 1 1", "a: &a [car]\nnames: [*a, *a]", r"uses the alias '\*a'"),
    ],
)
def test_yolo_faults(tmp_path: Path, lines: str, names: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert_dataset(write_yolo(tmp_path / "yolo", lines, names), tmp_path / "own.yaml")


def test_yolo_labels_without_an_image_are_reported(tmp_path: Path) -> None:
    labels = write_yolo(tmp_path / "yolo", "0 0 0 1 0 1 1")
    (labels / "c.txt").write_text("0 0 0 1 0 1 1")
    with pytest.raises(UserError, match=r"c\.txt: no image in .* has this name"):
        convert_dataset(labels, tmp_path / "own.yaml")


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must end in \.yaml"):
        convert_dataset(tmp_path, tmp_path / "own.json")
    with pytest.raises(UserError, match="no folder"):
        convert_dataset(tmp_path / "gone", tmp_path / "own.yaml")
    with pytest.raises(UserError, match="no JSON file in"):
        convert_dataset(tmp_path, tmp_path / "own.yaml")
    write_labelme(tmp_path / "photos", "a", [])
    with pytest.raises(UserError, match="has no object"):
        convert_dataset(tmp_path / "photos", tmp_path / "own.yaml")
    write_labelme(tmp_path / "photos", "a", [shape("car")])
    with pytest.raises(UserError, match="--stuff names 'road', but the classes are car"):
        convert_dataset(tmp_path / "photos", tmp_path / "own.yaml", stuff=["road"])
