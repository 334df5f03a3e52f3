"""``frozenseg evaluate``: which model it measures on what, and what it prints."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from frozenseg.builders.options import RunOptions
from frozenseg.evaluation.loop import Report


@pytest.fixture
def asked(monkeypatch) -> SimpleNamespace:
    """Replaces model and measuring; holds what they were asked for."""
    seen = SimpleNamespace()

    def build_segmenter(cfg):
        seen.cfg = cfg
        return "segmenter"

    def evaluate_dataset(cfg, segmenter, name: str, folder: Path, options) -> Report:
        seen.name, seen.folder, seen.options = name, folder, options
        return Report({"panoptic/PQ": 61.5, "panoptic/unseen/PQ": 30.25}, {})

    monkeypatch.setattr("frozenseg.builders.segmenter.build_segmenter", build_segmenter)
    monkeypatch.setattr("frozenseg.builders.evaluation.evaluate_dataset", evaluate_dataset)
    return seen


def weights_of_clip(cfg) -> tuple[float, ...]:
    keys = cfg.MODEL.FROZEN_SEG, cfg.MODEL.FC_CLIP
    return tuple(
        value
        for each in keys
        for value in (each.GEOMETRIC_ENSEMBLE_ALPHA, each.GEOMETRIC_ENSEMBLE_BETA)
    )


def test_measures_the_shipped_model_on_the_shapes_world(run, asked, tmp_path):
    done = run("evaluate", "--dataset", "shapes", "--output", tmp_path)
    assert done.exit_code == 0, done.output
    assert (asked.name, asked.folder) == ("shapes_val", tmp_path)
    assert asked.options == RunOptions()
    assert asked.cfg.MODEL.WEIGHTS.endswith("head.safetensors")
    assert weights_of_clip(asked.cfg) == (0.4, 0.8, 0.4, 0.8)


def test_prints_one_table_and_where_the_numbers_are(run, asked, tmp_path):
    done = run("evaluate", "-o", tmp_path)
    row = next(line for line in done.stdout.splitlines() if "PQ" in line)
    assert "61.50" in row and "30.25" in row
    assert f"written: {tmp_path / 'metrics.json'}" in done.stdout.replace("\n", "")


def test_without_the_ensemble_the_decoder_is_alone(run, asked):
    run("evaluate", "--no-ensemble")
    assert weights_of_clip(asked.cfg) == (0.0, 0.0, 0.0, 0.0)


def test_options_and_keys_reach_the_configuration(run, asked, tmp_path):
    (tmp_path / "w.pth").touch()
    run(
        *("evaluate", "--weights", tmp_path / "w.pth", "--device", "cpu", "--limit", 3, "--resume"),
        *("DATALOADER.NUM_WORKERS", 0),
    )
    assert str(tmp_path / "w.pth") == asked.cfg.MODEL.WEIGHTS
    assert (asked.cfg.MODEL.DEVICE, asked.cfg.DATALOADER.NUM_WORKERS) == ("cpu", 0)
    assert asked.options == RunOptions(resume=True, limit=3)


def test_predictions_are_saved_where_asked(run, asked, tmp_path):
    done = run("evaluate", "-o", tmp_path / "out", "--save-predictions", tmp_path / "found")
    assert done.exit_code == 0, done.output
    assert asked.options == RunOptions(save_predictions=tmp_path / "found")
    assert str(tmp_path / "found") in done.stdout.replace("\n", "")


def test_a_report_that_cannot_be_written_ends_with_2_after_the_table(run, asked, tmp_path):
    (tmp_path / "out" / "metrics.json").mkdir(parents=True)
    done = run("evaluate", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "61.50" in done.stdout and "metrics.json cannot be written" in done.stderr


def test_unknown_key_ends_with_2_and_names_the_nearest(run):
    done = run("evaluate", "DATALOADER.WORKERS", 0)
    assert done.exit_code == 2
    assert "DATALOADER.NUM_WORKERS" in done.stderr and done.stderr.count("\n") == 1


def test_missing_weights_end_with_2_and_leave_no_folder(run, tmp_path):
    done = run("evaluate", "--weights", tmp_path / "gone.safetensors", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "gone.safetensors" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
