"""``frozenseg demo``: a picture, a JSON file and a table that agree with each other."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from frozenseg.cli.demo import SCENES
from frozenseg.cli.main import app
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary

NAMES = shapes_vocabulary("val").names
SEEN = shapes_vocabulary("val").seen_by(shapes_vocabulary("train"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def printed(folder, halves) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frozenseg.load", lambda _: halves)
        done = CliRunner().invoke(app, ["demo", "-o", str(folder)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_segments_of_every_scene_are_stored(printed, folder):
    stored = json.loads((folder / "demo.json").read_text())
    assert len(stored["scenes"]) == len(SCENES)
    for scene in stored["scenes"]:
        segments = scene["segments_info"]
        assert [each["name"] for each in segments] == [NAMES[0], NAMES[-1]]
        assert [each["seen_in_training"] for each in segments] == [True, False]
        assert sum(each["area"] for each in segments) == 256 * 256


def test_inputs_are_stored_as_they_were_drawn(printed, folder):
    for number, index in enumerate(SCENES, start=1):
        with Image.open(folder / f"scene_{number}.png") as stored:
            drawn = ShapesDataset("val")[index].image.permute(1, 2, 0).numpy()
            assert np.array_equal(np.asarray(stored), drawn)


def test_picture_shows_a_row_per_scene_with_the_input_beside_the_result(printed, folder):
    with Image.open(folder / "demo.png") as picture:
        pixels = np.asarray(picture).astype(int)
    height, width = pixels.shape[:2]
    assert width > 2 * 768 and height > 768 * len(SCENES)
    left, right = pixels[:, : width // 2], pixels[:, width // 2 :]
    assert np.abs(left - right[:, : left.shape[1]]).mean() > 20


def test_table_says_which_words_training_never_showed(printed):
    rows = [line for line in printed.splitlines() if NAMES[-1] in line]
    assert len(rows) == len(SCENES) and all(" no " in row and "0.75" in row for row in rows)
    seen = [line for line in printed.splitlines() if NAMES[0] in line]
    assert len(seen) == len(SCENES) and all(" yes " in row for row in seen)


def test_says_that_the_model_is_miniature(printed):
    assert "miniature model" in printed


def test_shipped_model_finds_what_was_drawn_seen_or_not(run, tmp_path):
    done = run("demo", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "demo.json").read_text())
    drawn, found = Counter[str](), Counter[str]()
    for scene, index in zip(stored["scenes"], SCENES, strict=True):
        annotated = ShapesDataset("val")[index].panoptic.segments
        drawn += Counter(NAMES[segment.class_id] for segment in annotated)
        found += Counter(segment["name"] for segment in scene["segments_info"])
    assert (drawn & found).total() > 0.6 * drawn.total()
    unseen = {name for name, known in zip(NAMES, SEEN, strict=True) if not known}
    assert len((drawn & found).keys() & unseen) >= 2
