"""The parent's view of the entry points: names and shares, without importing the project."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (
    "import json; from tools.fuzz.entries import ENTRIES; "
    "print(json.dumps({name: entry.share for name, entry in ENTRIES.items()}))"
)


@cache
def shares() -> dict[str, float]:
    """Each entry point's part of all cases."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
    )
    return json.loads(done.stdout.splitlines()[-1])
