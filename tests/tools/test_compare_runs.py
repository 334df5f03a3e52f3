"""``tools/compare_runs.py`` on two run folders written by hand."""

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import pytest

from frozenseg.errors import UserError

TOOL = Path(__file__).resolve().parents[2] / "tools" / "compare_runs.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_runs", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_folder(folder: Path, *, lr: float, losses: list[float], pq: float) -> Path:
    (folder / "inference" / "shapes_val").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"SOLVER:\n  BASE_LR: {lr}\nSEED: 1\n")
    (folder / "environment.json").write_text(json.dumps({"packages": {"torch": "2.14"}}))
    lines = [
        json.dumps({"iteration": 20 * number, "total_loss": loss, "memory_gib": 1.0})
        for number, loss in enumerate(losses, start=1)
    ]
    (folder / "metrics.jsonl").write_text(
        "\n".join([*lines, '{"iteration": 60, "panoptic/PQ": 1}'])
    )
    report = folder / "inference" / "shapes_val" / "metrics.json"
    report.write_text(json.dumps({"panoptic/PQ": pq, "panoptic/unseen/PQ": None}))
    return folder


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return (
        run_folder(tmp_path / "a", lr=0.1, losses=[8.0, 4.0, 2.0, 2.0], pq=50.0),
        run_folder(tmp_path / "b", lr=0.2, losses=[8.0, 4.4, 3.0], pq=52.5),
    )


def test_only_what_differs_is_shown(
    tool: ModuleType,
    two: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["compare_runs.py", *map(str, two)])
    tool.main()
    shown = capsys.readouterr().out
    assert "SOLVER.BASE_LR" in shown
    assert "SEED" not in shown
    assert "environment: the same" in shown
    assert "+2.5" in shown


def test_training_numbers_are_means_over_the_later_common_iterations(
    tool: ModuleType, two: tuple[Path, Path]
) -> None:
    rows = {name: pair for name, *pair in tool.training_rows(*map(tool.read_run, two))}
    assert rows["total_loss"] == pytest.approx([3.0, 3.7])


def test_the_largest_relative_loss_difference_decides(
    tool: ModuleType, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [tool.read_run(folder) for folder in two]
    largest = tool.largest_loss_difference(*runs)
    assert largest == (pytest.approx(1 / 3), "total_loss", 60)
    assert str(largest).endswith("3.33e-01 of their size, total_loss at iteration 60")
    assert tool.largest_loss_difference(*runs, last=40).relative == pytest.approx(0.4 / 4.4)
    assert math.isnan(tool.largest_loss_difference(*runs, last=10).relative)
    runs[1].steps[40]["loss_mask"] = 1.0
    assert "only one run has loss_mask at iteration 40" in str(tool.largest_loss_difference(*runs))
    for tolerance, last, status in (("0.1", "40", None), ("0.1", "60", 1), ("0.1", "1", 1)):
        arguments = ["--same-losses", tolerance, "--last", last]
        monkeypatch.setattr("sys.argv", ["compare_runs.py", *map(str, two), *arguments])
        if status is None:
            tool.main()
        else:
            with pytest.raises(SystemExit) as ended:
                tool.main()
            assert ended.value.code == status


def test_a_folder_without_a_run_is_named(
    tool: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["compare_runs.py", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    assert ended.value.code == 2
    assert "holds no config.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", ""),
        ("config.yaml", "a: [1"),
        ("environment.json", '{"packages"'),
        ("inference/shapes_val/metrics.json", "[1]"),
    ],
)
def test_a_damaged_file_is_named(
    tool: ModuleType, two: tuple[Path, Path], name: str, content: str
) -> None:
    (two[0] / name).write_text(content)
    with pytest.raises(UserError, match=name):
        tool.read_run(two[0])
