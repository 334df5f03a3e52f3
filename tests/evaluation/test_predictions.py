"""Files of predictions: the same after an interruption, for odd image ids, and on a full disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenseg.errors import UserError
from frozenseg.evaluation.predictions import (
    CocoInstances,
    CocoPanoptic,
    LabelMaps,
    PredictionWriter,
    file_stem,
)
from frozenseg.structures import InputImage, Instances, PanopticMap, Result, Sample, Segment
from tests.evaluation.test_loop import Grey, run

SIZE = (4, 6)


def formats(folder: Path) -> list[PredictionWriter]:
    """A writer with one file per image, one with a common file, one with both."""
    ids, is_thing = (7, 300), (True, False)
    return [
        LabelMaps(folder, labels=ids),
        CocoInstances(folder, category_ids=ids, is_thing=is_thing),
        CocoPanoptic(folder, category_ids=ids, names=("cat", "sky"), is_thing=is_thing),
    ]


def predict(images: list[InputImage]) -> list[Result]:
    """Results that depend on the image's value, which is its index plus 100."""
    return [result_of(int(image.pixels.max()) - 100) for image in images]


def result_of(index: int) -> Result:
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[0, : 1 + index % 3] = True
    masks[1] = ~masks[0]
    return Result(
        semantic=masks[1].long(),
        panoptic=PanopticMap(
            torch.where(masks[0], 70_000 + index, 0).int(),
            (Segment(70_000 + index, 0, is_thing=True),),
        ),
        instances=Instances(
            torch.tensor([0, 1]), torch.tensor([0.25, 0.5]), masks, torch.zeros(2, 4)
        ),
    )


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_image_has_its_files_and_entries(tmp_path: Path) -> None:
    run(Grey(13), tmp_path / "out", predict=predict, writers=formats(tmp_path / "found"))
    assert len(files(tmp_path / "found")) == 13 + 13 + 2
    labels = np.array(Image.open(tmp_path / "found" / "semantic" / "000000000004.png"))
    assert labels.dtype.itemsize == 2 or labels.dtype == np.int32  # 300 does not fit in 8 bits
    assert labels[:, 0].tolist() == [7, 7, 300, 300]
    content = json.loads((tmp_path / "found" / "panoptic.json").read_text())
    assert [each["image_id"] for each in content["annotations"]] == list(range(13))
    assert content["annotations"][4]["segments_info"] == [
        {"id": 70_004, "category_id": 7, "isthing": 1, "area": 12}
    ]
    colors = np.array(Image.open(tmp_path / "found" / "panoptic" / "000000000004.png"))
    assert (colors[0, 0] @ [1, 256, 65536], colors[3, 0].sum()) == (70_004, 0)
    objects = json.loads((tmp_path / "found" / "instances.json").read_text())
    assert [each["image_id"] for each in objects] == list(range(13))  # stuff is left out
    assert {each["category_id"] for each in objects} == {7}
    assert objects[0]["score"] == 0.25


def test_an_interrupted_evaluation_leaves_the_same_files_when_resumed(tmp_path: Path) -> None:
    def dies_at_twelve(images: list[InputImage]) -> list[Result]:
        if int(images[0].pixels.max()) == 112:
            raise KeyboardInterrupt
        return predict(images)

    with pytest.raises(KeyboardInterrupt):
        run(
            Grey(13),
            tmp_path / "out",
            predict=dies_at_twelve,
            writers=formats(tmp_path / "parts"),
        )
    assert not (tmp_path / "parts" / "panoptic.json").exists()
    samples = Grey(13)
    writers = formats(tmp_path / "parts")
    run(samples, tmp_path / "out", predict=predict, writers=writers, resume=True)
    assert samples.read == [10, 11, 12]
    run(Grey(13), tmp_path / "out", predict=predict, writers=formats(tmp_path / "whole"))
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


@pytest.mark.parametrize("image_id", ["../../etc/passwd", "a/b", "a\\b", "", "..", "\x1b[0m", 7])
def test_no_image_id_leads_out_of_the_folder(tmp_path: Path, image_id: int | str) -> None:
    sample = Sample(torch.zeros(3, *SIZE, dtype=torch.uint8), image_id, "")
    LabelMaps(tmp_path, labels=(0, 1)).write(result_of(0), sample)
    (path,) = tmp_path.rglob("*.png")
    assert path.parent == tmp_path / "semantic"


def test_distinct_image_ids_have_distinct_files() -> None:
    ids = ["a/b", "a%2Fb", "a_b", "a b", 1, "1", "10"]
    assert len({file_stem(image_id) for image_id in ids}) == len(ids)


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    sample = Sample(torch.zeros(3, *SIZE, dtype=torch.uint8), 1, "")
    with pytest.raises(UserError, match=r"000000000001\.png cannot be written \(No space left"):
        LabelMaps(tmp_path, labels=(0, 1)).write(result_of(0), sample)
    assert files(tmp_path) == {}
