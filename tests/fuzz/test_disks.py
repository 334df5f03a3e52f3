"""Everything that writes, on a real file system that is full or read-only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def in_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that may mount file systems which nobody else sees."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["unshare", "-rm", *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder on which a file system can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = in_namespace("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder))
    except FileNotFoundError:
        pytest.skip("needs the command unshare")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    return folder


@pytest.mark.slow
def test_writers_survive_full_and_read_only_disks(disk: Path):
    done = in_namespace(sys.executable, "-m", "tools.fuzz.small_disk", str(disk))
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "0 problems" in done.stdout
