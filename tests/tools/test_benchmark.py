import json
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import benchmark
import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def frame(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    return import_module("benchmarks.frame")


def busy(seconds: float) -> torch.Tensor:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return torch.tensor([10.0, seconds])


def test_both_ways_are_timed_and_their_results_compared(frame) -> None:
    stage = frame.Stage("busy", "twice as long", lambda: busy(0.2), lambda: busy(0.1))
    figures = frame.measure(stage, 2)
    assert 1.5 < figures.ratio < 2.5
    assert figures.difference == pytest.approx(0.01, rel=1e-3)
    assert json.loads(json.dumps(frame.record([figures])))["stages"][0]["stage"] == "busy"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_memory_is_what_a_way_holds_at_its_peak(frame) -> None:
    def holding(mib: int) -> torch.Tensor:
        return torch.ones(mib << 18).sum()[None]

    figures = frame.measure(
        frame.Stage("hold", "more", lambda: holding(96), lambda: holding(32)), 1
    )
    assert figures.baseline.memory_mib == pytest.approx(96, abs=12)
    assert figures.shipped.memory_mib == pytest.approx(32, abs=12)


def test_a_stage_is_measured_and_written_as_json(tmp_path: Path) -> None:
    command = [sys.executable, str(TOOLS / "benchmark.py"), "--stage", "transformer-decoder"]
    options = ["--size", "64x96", "--repeats", "1", "--json", str(tmp_path / "speed.json")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (stage,) = json.loads((tmp_path / "speed.json").read_text())["stages"]
    assert stage["ratio"] > 0
    assert "ratio" in done.stdout


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        (["--sizes", "64x64", "128x160"], ["64 x 64", "128 x 160"]),
        (["--size", "64x64", "--batches", "1", "3"], ["batch of 1", "batch of 3"]),
    ],
)
def test_each_amount_of_work_has_a_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options, columns
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--stage", "transformer-decoder", *options])
    benchmark.main()
    shown = capsys.readouterr().out
    assert all(column in shown for column in columns)
    assert re.search(r"transformer-decoder\W+\d+\.\d\d, [\d?]+\W+\d+\.\d\d, [\d?]+", shown)
