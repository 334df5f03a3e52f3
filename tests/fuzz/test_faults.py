"""Killed and resumed work leaves what an undisturbed run leaves, byte for byte."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALONE = (
    "training, 1 process", "evaluation", "SAM masks", "preparation", "preparation, 2 processes",
)  # fmt: skip


def killed(folder: Path, kills: int, *names: str) -> dict:
    """The report of some kills."""
    report = folder / "report.json"
    only = [part for name in names for part in ("--only", name)]
    command = [sys.executable, "-m", "tools.fuzz.faults", "--kills", str(kills), "--seed", "14"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *only, "--json", str(report)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert report.exists(), done.stderr[-2000:]
    return json.loads(report.read_text())


@pytest.mark.slow
def test_six_kills_change_nothing(tmp_path: Path):
    report = killed(tmp_path, 6, *ALONE)
    assert report["faults"] == []
    assert report["kills"] >= 6 and len(report["counts"]) == len(ALONE)


@pytest.mark.slow
def test_a_kill_of_two_processes_changes_nothing(tmp_path: Path):
    report = killed(tmp_path, 1, "training, 2 processes")
    assert report["faults"] == [] and report["kills"] >= 1
