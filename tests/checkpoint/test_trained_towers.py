"""A CLIP that was trained: stored with the weights, whole or as the difference to its base."""

from pathlib import Path

import pytest
import torch
from fvcore.common.config import CfgNode
from safetensors import safe_open
from torch import Tensor
from typer.testing import CliRunner

from frozenseg import model_config
from frozenseg.builders.model import build_model
from frozenseg.builders.options import RunOptions
from frozenseg.builders.segmenter import load_model
from frozenseg.builders.trainer import build_training
from frozenseg.builders.weight_conversion import to_official_layout, to_own_layout, trained_weights
from frozenseg.checkpoint.weights import save_weights
from frozenseg.cli.main import app
from frozenseg.errors import UserError
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.training.checkpoints import FINAL_WEIGHTS, publish_weights

STEM = "clip.model.visual.trunk.stem.0.weight"


@pytest.fixture
def cfg(small_config, asked) -> CfgNode:
    return small_config(sam=False, MODEL__WEIGHTS_TOWERS="use")


@pytest.fixture
def light(ovrcoat: Path, cfg, tmp_path: Path) -> Path:
    to_own_layout(ovrcoat, tmp_path / "light.safetensors", cfg, light=True)
    return tmp_path / "light.safetensors"


def names_and_notes(path: Path) -> tuple[set[str], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return set(file.keys()), file.metadata()


def clip_of(model: SegmentationModel) -> dict[str, Tensor]:
    return model.proposer.backbone.model.state_dict()


def same_clip(one: SegmentationModel, other: SegmentationModel) -> bool:
    theirs = clip_of(other)
    return all(torch.equal(value, theirs[name]) for name, value in clip_of(one).items())


def test_saving_writes_the_trained_tower_and_notes_it(ovrcoat: Path, cfg, tmp_path: Path) -> None:
    model = load_model(cfg, ovrcoat)
    save_weights(model.proposer, tmp_path / "saved.safetensors")
    names, notes = names_and_notes(tmp_path / "saved.safetensors")
    assert {f"clip.model.{name}" for name in clip_of(model)} < names
    assert notes["trained_towers"] == "clip"
    assert notes["clip"] == model.proposer.backbone.fingerprint
    assert same_clip(load_model(cfg, tmp_path / "saved.safetensors"), model)


def test_a_published_tower_is_not_stored(small_model, tmp_path: Path) -> None:
    model = small_model(sam=False)
    save_weights(model, tmp_path / "saved.safetensors")
    names, notes = names_and_notes(tmp_path / "saved.safetensors")
    assert names == set(model.trainable_state())
    assert "trained_towers" not in notes


def test_converting_and_saving_a_folder_note_the_trained_tower(
    ovrcoat: Path, cfg, small_config, tmp_path: Path
) -> None:
    to_own_layout(ovrcoat, tmp_path / "ours.safetensors", cfg)
    names, notes = names_and_notes(tmp_path / "ours.safetensors")
    assert STEM in names and notes["trained_towers"] == "clip"
    tensors, kept = trained_weights(tmp_path / "ours.safetensors", cfg)
    assert STEM in tensors and kept["trained_towers"] == "clip"
    frozen = small_config(sam=False)
    tensors, kept = trained_weights(tmp_path / "ours.safetensors", frozen)
    assert STEM not in tensors and "trained_towers" not in kept


def test_a_configuration_of_frozen_towers_is_told_to_use_the_files(
    ovrcoat: Path, cfg, small_config, tmp_path: Path
) -> None:
    to_own_layout(ovrcoat, tmp_path / "ours.safetensors", cfg)
    with pytest.raises(UserError, match=r"trained with it .*set MODEL.WEIGHTS_TOWERS to use$"):
        load_model(small_config(sam=False), tmp_path / "ours.safetensors")


def test_checkpoints_of_a_training_hold_the_trained_tower_and_resume(tmp_path: Path) -> None:
    def config(**keys: object) -> CfgNode:
        quick = {
            "MODEL.WEIGHTS_TOWERS": "use", "DATASETS.TEST": (), "OUTPUT_DIR": str(tmp_path / "run"),
            "SOLVER.IMS_PER_BATCH": 1, "DATALOADER.NUM_WORKERS": 0, "SEED": 1,
        } | keys  # fmt: skip
        pairs = [str(word) for pair in quick.items() for word in pair]
        return model_config("ablations/shapes/table4_2_baseline.yaml", overrides=pairs)

    start = tmp_path / "start.safetensors"
    model = build_model(config())
    tower = model.proposer.backbone
    tower.load({name: 1.01 * value for name, value in tower.model.state_dict().items()})
    save_weights(model.proposer, start)

    for count, resume in ((1, False), (2, True)):
        cfg = config(**{"MODEL.WEIGHTS": start, "SOLVER.MAX_ITER": count})
        options = RunOptions(resume=resume)
        training = build_training(cfg, device=torch.device("cpu"), options=options)
        assert training.trainer.iteration == count - 1
        training.trainer.run()
    publish_weights(training.trainer.checkpoints.newest_path(), tmp_path / FINAL_WEIGHTS)
    _, notes = names_and_notes(tmp_path / FINAL_WEIGHTS)
    assert notes["trained_towers"] == "clip" and notes["clip"] == tower.fingerprint
    assert same_clip(load_model(config(), tmp_path / FINAL_WEIGHTS), model)


def test_a_light_file_holds_what_differs_and_loads_as_the_whole(
    light: Path, ovrcoat: Path, cfg, small_clip
) -> None:
    names, notes = names_and_notes(light)
    assert {name for name in names if name.startswith("clip.")} == {STEM}
    assert notes["trained_towers"] == "clip"
    assert notes["clip_base"] == small_clip().fingerprint
    model = load_model(cfg, light)
    assert same_clip(model, load_model(cfg, ovrcoat))
    assert model.proposer.backbone.fingerprint == notes["clip"] != notes["clip_base"]


def test_a_light_file_becomes_a_whole_and_an_official_one_again(
    light: Path, ovrcoat: Path, cfg, tmp_path: Path
) -> None:
    to_own_layout(light, tmp_path / "whole.safetensors", cfg)
    names, notes = names_and_notes(tmp_path / "whole.safetensors")
    assert len([name for name in names if name.startswith("clip.")]) > 1
    assert "clip_base" not in notes
    to_official_layout(light, tmp_path / "official.pth", cfg)
    before, after = (torch.load(path)["model"] for path in (ovrcoat, tmp_path / "official.pth"))
    for name, value in after.items():
        assert name.startswith("criterion.") or torch.equal(value, before[name]), name


def test_a_light_file_of_another_or_a_missing_base_is_one_sentence(
    light: Path, cfg, small_clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*_: object, **__: object):
        tower = small_clip()
        tower.load({name: 2 * value for name, value in tower.model.state_dict().items()})
        return tower

    monkeypatch.setattr("frozenseg.builders.clips.load_clip", other)
    with pytest.raises(UserError, match=r"holds only the differences to another CLIP \('[0-9a-f]"):
        load_model(cfg, light)
    monkeypatch.undo()
    monkeypatch.setenv("FROZENSEG_OFFLINE", "1")
    with pytest.raises(UserError, match=r"^cannot get open_clip_model\.safetensors"):
        load_model(cfg, light)


def test_a_light_file_needs_a_configuration_that_takes_clip_from_it(
    ovrcoat: Path, small_config, asked, tmp_path: Path
) -> None:
    output = tmp_path / "light.safetensors"
    with pytest.raises(UserError, match=r"choose one with MODEL\.WEIGHTS_TOWERS use"):
        to_own_layout(ovrcoat, output, small_config(sam=False), light=True)
    words = ["convert", str(ovrcoat), str(output), "--light", "--to", "official"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "--light excludes --decoder and --to official" in result.stderr
    assert not output.exists()
