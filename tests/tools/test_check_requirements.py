"""Every package that is needed is pinned to one version."""

from pathlib import Path

import check_requirements
import pytest

ROOT = Path(__file__).parents[2]


def test_every_needed_package_is_pinned():
    pins = check_requirements.read_pins(check_requirements.REQUIREMENTS)
    assert list(check_requirements.missing_pins(pins)) == []


def test_a_missing_pin_is_named():
    pins = check_requirements.read_pins(check_requirements.REQUIREMENTS)
    del pins["mpmath"]
    (problem,) = check_requirements.missing_pins(pins)
    assert "mpmath" in problem and "sympy" in problem


@pytest.mark.parametrize("line", ["numpy>=2", "numpy", "numpy==2.*,<3"])
def test_a_loose_version_is_refused(tmp_path: Path, line: str):
    path = tmp_path / "requirements.txt"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(ValueError, match="is not pinned"):
        check_requirements.read_pins(path)
