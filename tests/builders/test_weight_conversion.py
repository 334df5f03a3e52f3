from pathlib import Path

import pytest
import torch
from fvcore.common.config import CfgNode
from safetensors import safe_open
from typer.testing import CliRunner

from frozenseg.builders.weight_conversion import to_official_layout, to_own_layout
from frozenseg.checkpoint.weights import load_weights, official_state, save_weights
from frozenseg.cli.convert import convert
from frozenseg.errors import UserError
from frozenseg.io.weight_files import read_weights
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.towers.loading import RANDOM

THREE_LEVEL = {"MODEL__FROZEN_SEG__SAM_ATTENTION_LAYOUT": "three_level"}


@pytest.fixture
def model(small_model) -> FrozenSeg:
    return small_model(seed=1, **THREE_LEVEL)


@pytest.fixture
def cfg(small_config, small_model, monkeypatch: pytest.MonkeyPatch) -> CfgNode:
    """The small model's configuration, whose towers are at hand under its names."""

    def tower(kind: str):
        def load(name: str, weights: str = "", **_: object):
            found = getattr(small_model(), kind)
            return found.to("meta") if weights == RANDOM else found

        return load

    monkeypatch.setattr("frozenseg.builders.clips.load_clip", tower("backbone"))
    monkeypatch.setattr("frozenseg.builders.frozenseg.load_sam", tower("sam"))
    return small_config()


def official(model: FrozenSeg, **options: bool) -> dict[str, torch.Tensor]:
    return official_state(model, num_classes=133, no_object_weight=0.1, **options)


def test_an_official_file_becomes_ours_without_its_towers(model, cfg, small_model, tmp_path: Path):
    torch.save({"model": official(model)}, tmp_path / "official.pth")
    to_own_layout(tmp_path / "official.pth", tmp_path / "ours.safetensors", cfg)
    with safe_open(tmp_path / "ours.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(model.trainable_state())
        notes = file.metadata()
    assert notes["clip"] == model.backbone.fingerprint
    assert notes["sam"] == model.sam.fingerprint
    assert notes["sam_name"] == "vit_b"
    other = small_model(seed=2, **THREE_LEVEL)
    load_weights(other, tmp_path / "ours.safetensors")
    for name, value in model.trainable_state().items():
        assert torch.equal(other.trainable_state()[name], value)


def test_an_official_file_without_towers_names_none(model, cfg, tmp_path: Path) -> None:
    torch.save(official(model, with_towers=False), tmp_path / "official.pth")
    to_own_layout(tmp_path / "official.pth", tmp_path / "ours.safetensors", cfg)
    assert "clip" not in read_weights(tmp_path / "ours.safetensors").notes


@pytest.mark.parametrize("with_towers", [True, False])
def test_there_and_back_is_the_official_file_again(model, cfg, tmp_path: Path, with_towers) -> None:
    state = official(model, with_towers=with_towers)
    torch.save(state, tmp_path / "official.pth")
    to_own_layout(tmp_path / "official.pth", tmp_path / "ours.safetensors", cfg)
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    to_official_layout(ours, back, cfg, with_towers=with_towers)
    again = torch.load(back, weights_only=True)["model"]
    assert again.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(again[name], value), name


def test_a_file_of_another_configuration_writes_nothing(model, small_config, cfg, tmp_path: Path):
    torch.save(official(model), tmp_path / "official.pth")
    cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 9
    with pytest.raises(UserError, match=r"query_features.weight is \(6, 32\), expected \(9, 32\)"):
        to_own_layout(tmp_path / "official.pth", tmp_path / "ours.safetensors", cfg)
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_single_level_model_is_not_exported(cfg, small_model, tmp_path: Path) -> None:
    save_weights(small_model(), tmp_path / "ours.safetensors")
    with pytest.raises(UserError, match="the official code cannot run this model"):
        to_official_layout(tmp_path / "ours.safetensors", tmp_path / "x.pth", cfg)
    assert not (tmp_path / "x.pth").exists()


def test_the_command_converts_and_says_what_it_wrote(model, cfg, tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(convert)
    torch.save(official(model), tmp_path / "official.pth")
    (tmp_path / "small.yaml").write_text(cfg.dump())
    config = ["--config", str(tmp_path / "small.yaml")]
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    run = CliRunner().invoke(app, [str(tmp_path / "official.pth"), str(ours), *config])
    assert run.exit_code == 0, run.output
    assert "wrote" in run.output
    run = CliRunner().invoke(app, [str(ours), str(back), "--to", "official", *config])
    assert run.exit_code == 0, run.output
    assert torch.load(back, weights_only=True)["model"].keys() == official(model).keys()
