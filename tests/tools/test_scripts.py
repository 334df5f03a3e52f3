"""The scripts start as the documentation runs them: by path, from any folder."""

import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[2] / "tools"


def test_every_script_finds_its_imports(tmp_path: Path) -> None:
    scripts = sorted(path.stem for path in TOOLS.glob("*.py"))
    code = f"import sys; sys.path[:0] = [{str(TOOLS)!r}]; import {', '.join(scripts)}"
    started = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert started.returncode == 0, started.stderr
