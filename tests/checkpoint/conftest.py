"""Files of the FC-CLIP family, and pre-built towers under published names."""

from pathlib import Path

import pytest
import torch

from frozenseg.checkpoint.weights import official_state


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
    """The weights that towers are asked for, and the published files that are looked for."""
    names: list[str] = []

    def load(name: str, weights: str = "", **_: object):
        names.append(weights)
        tower = small_clip()
        return tower.to("meta") if torch.get_default_device().type == "meta" else tower

    monkeypatch.setattr("frozenseg.builders.clips.load_clip", load)
    monkeypatch.setattr("frozenseg.builders.clips.clip_file", lambda *_: names.append("file"))
    return names
