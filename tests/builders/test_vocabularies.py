"""The classes that a model was trained on travel with its weights and decide what is seen."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from frozenseg.builders.training import build_preparation
from frozenseg.builders.vocabularies import (
    build_known_vocabulary,
    build_test_vocabulary,
    build_trained_vocabulary,
    build_training_vocabulary,
    trained_in_this_run,
)
from frozenseg.checkpoint.class_names import classes_note, noted_classes
from frozenseg.config import load_config
from frozenseg.data.shapes import shapes_vocabulary
from frozenseg.vocabulary import parse_vocabulary

WORDS = parse_vocabulary(["player, athlete", "lawn [stuff]"])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint's folder with the note of two classes."""
    folder = tmp_path / "0000002"
    folder.mkdir()
    save_file({"x": torch.zeros(1)}, folder / "weights.safetensors", classes_note(WORDS))
    return folder


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A data set file of three classes, one of them unseen."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    names = ("player", "lawn", "ball")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 4}],
        "annotations": [],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
    }
    (tmp_path / "own.json").write_text(json.dumps(content))
    path = tmp_path / "own.yaml"
    keys = {"images": ".", "instances": "own.json", "unseen": ["lawn"], "test_size": [64, 96]}
    path.write_text(yaml.safe_dump(keys))
    return str(path)


def config(**keys: object):
    pairs = [part for key, value in keys.items() for part in (key.replace("__", "."), str(value))]
    return load_config("shapes/frozenseg.yaml", pairs)


def test_notes_are_read_from_files_and_folders(weights: Path, tmp_path: Path) -> None:
    assert noted_classes(weights) == WORDS
    assert noted_classes(weights / "weights.safetensors") == WORDS
    for other in ("", tmp_path / "gone.safetensors", tmp_path / "model.pth"):
        assert noted_classes(other) is None


@pytest.mark.parametrize("note", ["", "[", "7", "[7]", '[{"synonyms": []}]', "[]"])
def test_a_damaged_note_counts_as_none(tmp_path: Path, note: str) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors", {"classes": note})
    assert noted_classes(tmp_path / "a.safetensors") is None


def test_noted_classes_come_before_the_training_set(weights: Path, own: str) -> None:
    assert build_trained_vocabulary(config()) == shapes_vocabulary("train")
    cfg = config(MODEL__WEIGHTS=weights, DATASETS__TRAIN="('gone.yaml',)")
    assert build_trained_vocabulary(cfg) == WORDS  # the training data need not be there
    cfg = config(MODEL__WEIGHTS=weights, DATASETS__TRAIN=f"('{own}',)")
    assert build_training_vocabulary(cfg).names == ("player", "ball")
    assert build_trained_vocabulary(cfg) == WORDS
    assert build_trained_vocabulary(trained_in_this_run(cfg)).names == ("player", "ball")


def test_unseen_classes_of_a_test_set(weights: Path, own: str) -> None:
    cfg = config(MODEL__WEIGHTS=weights, DATASETS__TEST=f"('{own}',)")
    words = build_test_vocabulary(cfg, own)
    assert words.seen_by(build_known_vocabulary(cfg, own)) == (True, False, True)
    text = Path(own).read_text().replace("unseen:\n- lawn\n", "")
    Path(own).write_text(text)
    words = build_test_vocabulary(cfg, own)
    assert words.seen_by(build_known_vocabulary(cfg, own)) == (True, True, False)


def test_the_test_size_of_a_file_applies_where_the_configuration_has_its_default(own: str) -> None:
    def sides(cfg, name: str) -> tuple[int, int]:
        prepare = build_preparation(cfg, name)
        return prepare.short_side, prepare.long_side

    default = load_config(None)
    assert sides(default, own) == (64, 96)
    assert sides(default, "shapes_val") == (800, 1333)
    assert sides(load_config(None, ["INPUT.MIN_SIZE_TEST", "320"]), own) == (320, 1333)
