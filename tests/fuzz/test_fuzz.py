"""The corpus of inputs that failed once, and 500 new ones with a fixed seed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fuzzed(folder: Path, *options: str) -> tuple[int, dict]:
    """The exit status of the harness and its report."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "tools.fuzz", "--workers", "1", "--quiet", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--json", str(report)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert report.exists(), done.stderr[-2000:]
    return done.returncode, json.loads(report.read_text())


@pytest.mark.slow
def test_no_input_crashes_hangs_or_misleads(tmp_path: Path):
    status, report = fuzzed(tmp_path, "--cases", "500", "--seed", "14")
    kinds = [
        f"{k['entry']}: {k['kind']} {k['error']} {k['place']} {k['message']}"
        for k in report["kinds"]
    ]
    assert kinds == [] and status == 0
    assert sum(sum(counts.values()) for counts in report["counts"].values()) >= 490


def test_faults_are_seen(tmp_path: Path):
    """The harness itself: a crash, a hang, an exception and a wrong result are told apart."""
    status, report = fuzzed(
        tmp_path, *("--only", "self_test", "--cases", "24", "--seed", "1", "--hang", "0.5")
    )
    assert status == 1
    assert {kind["kind"] for kind in report["kinds"]} == {"uncaught", "wrong", "crash", "hang"}
    assert "MemoryError" in {kind["error"] for kind in report["kinds"]}
    assert report["counts"]["self_test"].keys() >= {"result", "refused"}
