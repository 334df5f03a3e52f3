"""Checks that ``requirements.txt`` pins every package that an installed one needs.

    python tools/check_requirements.py

Run in the environment that ``make`` builds. Only the platform's CUDA libraries are left to torch,
which names their versions itself. The exit status is 1 if a pin is missing or not installed.
"""

import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"
LEFT_TO_TORCH = ("nvidia-", "cuda-", "triton")


def main() -> int:
    pins = read_pins(REQUIREMENTS)
    problems = [*wrong_versions(pins), *missing_pins(pins)]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    sys.stdout.write(f"{len(pins)} pins, {len(problems)} problems\n")
    return 1 if problems else 0


def read_pins(path: Path) -> dict[str, Requirement]:
    """The requirements of a file by name.

    Raises:
        ValueError: a line is not pinned to one version.
    """
    pins: dict[str, Requirement] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        pin = Requirement(text)
        if [each.operator for each in pin.specifier] != ["=="] or pin.url:
            raise ValueError(f"{path.name}: '{text}' is not pinned: write NAME==VERSION")
        pins[canonicalize_name(pin.name)] = pin
    return pins


def wrong_versions(pins: Mapping[str, Requirement]) -> Iterator[str]:
    """Pins of which another version, or none, is installed."""
    for name, pin in pins.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{pin} is not installed: run make install"
            continue
        if found not in pin.specifier:
            yield f"{pin} is pinned but {found} is installed: run make install"


def missing_pins(pins: Mapping[str, Requirement]) -> Iterator[str]:
    """Returns requirements of pinned packages that have no pin."""
    for name, pin in pins.items():
        for need in needs_of(name, pin.extras):
            known = canonicalize_name(need.name)
            left = name == "torch" and known.startswith(LEFT_TO_TORCH)
            if known not in pins and not left:
                yield f"{need.name}, which {name} needs, has no pin: add it to requirements.txt"


def needs_of(name: str, extras: set[str]) -> Iterator[Requirement]:
    """The requirements of an installed package on this machine, with those of its extras."""
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        need = Requirement(line)
        if need.marker is None or any(
            need.marker.evaluate({"extra": extra}) for extra in {"", *extras}
        ):
            yield need


if __name__ == "__main__":
    sys.exit(main())
