from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from frozenseg.cli.main import app


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "250")


def test_the_list_shows_licence_and_link_uncut_on_a_narrow_terminal(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    result = CliRunner().invoke(app, ["weights", "list"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    row = lines.index("ovseg-large")
    assert "CC BY-NC 4.0" in lines[row + 1]
    assert lines[row + 2].endswith("/1cn-ohxgXDrDfkzC1QdO-fi8IjbjXmgKy")


def test_get_shows_the_licence_before_the_link_and_where_to_put_the_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["weights", "get", "frozenseg-rn50x64"])
    assert result.exit_code == 2
    assert result.stdout.index("ask the authors") < result.stdout.index("https://drive.google.com")
    assert str(tmp_path / "cache" / "weights" / "frozenseg-rn50x64.pth") in result.stdout
    assert "put it at that path" in result.stderr


def test_weights_of_another_model_are_refused_and_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(300_000)}, path)
    result = CliRunner().invoke(app, ["weights", "check", "fcclip-rn50", "--file", str(path)])
    assert result.exit_code == 2
    assert "other.safetensors" in result.stderr
    assert not (tmp_path / "cache" / "weights").exists()
