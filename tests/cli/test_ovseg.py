"""Every command with the miniature OVSeg, whose proposer is not trained here."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import frozenseg
from frozenseg.builders.model import build_model, trained_part
from frozenseg.checkpoint.ovseg import holds_clip
from frozenseg.checkpoint.weights import save_weights
from frozenseg.config import load_config
from frozenseg.data.shapes import ShapesDataset

CONFIG = "configs/shapes/ovseg.yaml"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model(load_config("shapes/ovseg.yaml"))
    path = tmp_path_factory.mktemp("ovseg") / "proposer.safetensors"
    save_weights(trained_part(model), path)
    return path


@pytest.fixture
def model(weights: Path) -> tuple:
    return "--model", CONFIG, "--weights", weights, "--device", "cpu"


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(ShapesDataset("val")[0].image.permute(1, 2, 0).numpy()).save(path)
    return path


def test_segment_gives_the_only_task_that_the_model_has(run, model, scene, tmp_path) -> None:
    output = tmp_path / "out"
    result = run("segment", scene, *model, "-w", "red star; sand, beach", "-o", output)
    assert result.exit_code == 0, result.output
    found = json.loads(next(output.glob("*.json")).read_text())
    assert found["task"] == "semantic"
    assert "sand, beach" in json.dumps(found), "a name is one literal phrase"


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_segment_refuses_other_tasks_in_one_sentence(run, model, scene, task) -> None:
    result = run("segment", scene, *model, "-w", "red star; sand", "--task", task)
    assert result.exit_code == 2
    assert "gives semantic results only" in result.stderr and result.stderr.count("error:") == 1


def test_evaluate_scores_classes_and_refuses_other_tasks(run, model, tmp_path) -> None:
    command = ("evaluate", *model, "--dataset", "shapes", "--limit", 1, "-o", tmp_path / "scores")
    result = run(*command)
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert "semantic/seen/mIoU" in scores and not any("panoptic" in name for name in scores)
    result = run(*command, "MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "True")
    assert result.exit_code == 2 and "gives semantic results only" in result.stderr


def test_compare_draws_it_beside_another_model(run, model, tmp_path) -> None:
    picture = tmp_path / "compare.png"
    command = ("figure", "compare", *model, "--baseline", "shapes", "-o", picture)
    result = run(*command, "--task", "semantic")
    assert result.exit_code == 0, result.output
    assert Image.open(picture).width > 3 * 256
    result = run(*command)
    assert result.exit_code == 2 and "choose the task semantic" in result.stderr


def test_summary_and_benchmark_count_and_time_it(run, model) -> None:
    result = run("summary", CONFIG)
    assert result.exit_code == 0 and "CLIP image encoder" in result.stdout
    size = ("--size", "96x96", "--limit", 1, "--repeats", 1)
    result = run("benchmark", *model, *size, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)


def test_convert_joins_proposer_and_clip_to_an_official_file(run, weights, tmp_path) -> None:
    whole, back = tmp_path / "whole.pth", tmp_path / "back.safetensors"
    to_official = ("convert", weights, whole, "--config", CONFIG, "--to", "official")
    assert run(*to_official).exit_code == 0
    assert holds_clip(torch.load(whole)["model"])
    assert run("convert", whole, back, "--config", CONFIG).exit_code == 0
    pixels = ShapesDataset("val")[1].image
    first, second = (
        frozenseg.load("shapes/ovseg.yaml", weights=path, device="cpu")(pixels, "sand; water")
        for path in (weights, back)
    )
    assert first.semantic is not None and second.semantic is not None
    assert np.array_equal(first.semantic, second.semantic)
