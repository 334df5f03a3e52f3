"""Weights of the FC-CLIP family: trained towers, teachers and members beside the decoder."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from frozenseg.builders.segmenter import load_model
from frozenseg.builders.weight_conversion import to_own_layout
from frozenseg.checkpoint.weights import official_state

TRAINED_TOWER = {"sam": False, "MODEL__WEIGHTS_TOWERS": "use"}


@pytest.fixture
def ovrcoat(small_model, tmp_path: Path) -> Path:
    """An OVRCOAT file: the trained image encoder, and the untouched one as the teacher."""
    model = small_model(seed=3, sam=False)
    state = official_state(model, num_classes=4, no_object_weight=0.1)
    clip = {n: v.clone() for n, v in state.items() if n.startswith("backbone.")}
    stem = "backbone.clip_model.visual.trunk.stem.0.weight"
    state |= {f"frozen_{name}": value for name, value in clip.items()}
    state[stem] = clip[stem] + 1
    torch.save({"model": state}, tmp_path / "ovrcoat.pth")
    return tmp_path / "ovrcoat.pth"


@pytest.fixture
def asked(small_clip, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The weights that towers are asked for."""
    names: list[str] = []

    def load(name: str, weights: str = "", **_: object):
        names.append(weights)
        tower = small_clip()
        return tower.to("meta") if torch.get_default_device().type == "meta" else tower

    monkeypatch.setattr("frozenseg.builders.clips.load_clip", load)
    return names


def stem_of(model) -> torch.Tensor:
    return model.proposer.backbone.model.visual.trunk.stem[0].weight


def test_the_trained_tower_is_read_from_the_file_and_no_other_is(
    ovrcoat: Path, asked, small_config, small_clip
) -> None:
    model = load_model(small_config(**TRAINED_TOWER), ovrcoat)
    torch.testing.assert_close(
        stem_of(model), small_clip().model.visual.trunk.stem[0].weight + 1, rtol=0, atol=0
    )
    assert asked == ["random"], "the published weights are not downloaded in vain"


def test_converting_keeps_the_trained_tower_and_drops_the_teacher(
    ovrcoat: Path, asked, small_config, tmp_path: Path
) -> None:
    cfg, ours = small_config(**TRAINED_TOWER), tmp_path / "ours.safetensors"
    to_own_layout(ovrcoat, ours, cfg)
    with safe_open(ours, framework="pt") as file:
        names = set(file.keys())
    assert "clip.model.visual.trunk.stem.0.weight" in names
    assert not [name for name in names if "frozen" in name]
    before, after = load_model(cfg, ovrcoat), load_model(cfg, ours)
    assert torch.equal(stem_of(before), stem_of(after))
    assert before.proposer.backbone.fingerprint == after.proposer.backbone.fingerprint
