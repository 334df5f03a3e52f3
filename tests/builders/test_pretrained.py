import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import frozenseg
from frozenseg.config import models
from frozenseg.errors import UserError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    frozenseg.save_pretrained(folder, "shapes", licence="Apache-2.0", metrics={"PQ": 40.5})
    return folder


def test_a_saved_folder_segments_as_the_model_does(saved: Path, monkeypatch) -> None:
    monkeypatch.setenv("FROZENSEG_OFFLINE", "1")
    image = torch.randint(0, 255, (3, 96, 96), dtype=torch.uint8)
    words = ["red circle", "grass [stuff]"]
    found = frozenseg.from_pretrained(saved, device="cpu")
    original = frozenseg.load("shapes", device="cpu")
    assert torch.equal(found(image, words).panoptic.ids, original(image, words).panoptic.ids)
    assert found.training.synonyms == original.training.synonyms


def test_the_folder_names_towers_and_classes_but_holds_no_tower(saved: Path) -> None:
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        names, notes = list(file.keys()), file.metadata()
    assert not any(name.startswith(("backbone.", "sam.")) for name in names)
    assert len(json.loads(notes["classes"])) == 48
    assert notes["clip"] == frozenseg.load("shapes").model.text_encoder.fingerprint
    config = json.loads((saved / "config.json").read_text())
    assert config["MODEL"]["WEIGHTS"] == ""
    assert config["MODEL"]["MASK_FORMER"]["NUM_OBJECT_QUERIES"] == 30


def test_the_card_gives_data_metrics_and_licences(saved: Path) -> None:
    card = (saved / "README.md").read_text()
    for part in ("shapes_train", "| PQ | 40.5 |", "code: Apache-2.0", "weights: Apache-2.0"):
        assert part in card


def test_a_repository_is_read_at_its_revision(saved: Path, monkeypatch) -> None:
    asked = []

    def hub_file(repository, names, *, revision, max_bytes) -> Path:
        asked.append((repository, names[0], revision))
        assert max_bytes
        return saved / names[0]

    monkeypatch.setattr("frozenseg.io.hub.hub_file", hub_file)
    files = models.model_files("owner/name", revision="v1")
    assert files.weights == saved / "model.safetensors"
    assert asked == [("owner/name", "config.json", "v1"), ("owner/name", "model.safetensors", "v1")]


def test_a_repository_without_a_network_is_one_sentence(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROZENSEG_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"cannot get config\.json of owner/name \(downloads are"):
        frozenseg.load("owner/name")


def test_a_changed_byte_of_the_weights_is_noticed(saved: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        content = bytearray((saved / name).read_bytes())
        if name == "model.safetensors":
            content[-1] ^= 1
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        frozenseg.from_pretrained(tmp_path)
