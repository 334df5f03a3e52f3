"""``frozenseg doctor``: what is installed, which kernels are used, whether the model works."""

import os
import platform
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from frozenseg.cli.console import console, errors

TOLERANCE = 1e-4  # float32 rounding of a small case stays far below


class State(Enum):
    well = "[green]ok[/]"
    note = "[yellow]note[/]"
    broken = "[bold red]broken[/]"


class Finding(NamedTuple):
    """One line of the report."""

    what: str
    state: State
    text: str


def doctor() -> None:
    """Say what is installed and whether it works; exit with 1 if something is broken.

    Example: frozenseg doctor
    """
    table = Table("", "what", "found", show_header=False, box=None, padding=(0, 1))
    broken = 0
    for title, check in CHECKS.items():
        with errors.status(title):
            findings = examine(title, check)
        for what, state, text in findings:
            broken += state is State.broken
            table.add_row(state.value, what, escape(text))
    console.print(table)
    if broken:
        console.print(f"[bold red]{broken} broken[/]")
        raise typer.Exit(1)
    console.print("[green]all is well[/]")


def examine(title: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; one that fails is a finding, too."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:  # whatever it is, telling about it is this command's purpose
        reason = " ".join(str(error).split()) or type(error).__name__
        findings.append(Finding(title, State.broken, reason))
    return findings


def python_and_packages() -> Iterator[Finding]:
    """Python, and every library that the package needs, at the version that it asks for."""
    from packaging.requirements import Requirement

    yield Finding("Python", State.well, f"{platform.python_version()} at {sys.executable}")
    for line in metadata.requires("frozenseg") or ():
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        yield _package(need.name, need.specifier)


def _package(name: str, wanted) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, State.broken, f"is not installed: pip install '{name}{wanted}'")
    if not wanted.contains(version, prereleases=True):
        return Finding(name, State.broken, f"{version}, but {wanted} is needed")
    return Finding(name, State.well, version)


def devices() -> Iterator[Finding]:
    """Processors and GPUs."""
    import torch

    cores = os.cpu_count()
    yield Finding("CPU", State.well, f"{cores} cores, torch uses {torch.get_num_threads()}")
    if not torch.cuda.is_available():
        yield Finding("CUDA", State.note, "no device: everything runs on the CPU")
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        memory = about.total_memory / 2**30
        yield Finding(f"cuda:{index}", State.well, f"{about.name}, {memory:.0f} GiB")


def deformable_attention() -> Iterator[Finding]:
    """Which implementation serves each device, and whether it gives the reference's numbers."""
    import torch

    from frozenseg.ops.ms_deform_attn import agrees_with_reference, implementation

    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        name, difference = implementation(device), agrees_with_reference(device)
        agrees = difference <= TOLERANCE  # not so for nan
        compiled = name.startswith("compiled")
        verdict = "agrees with" if agrees else "DISAGREES with"
        text = f"{name}; {verdict} the reference (largest difference {difference:.1e})"
        state = State.broken if not agrees else State.well if compiled else State.note
        yield Finding(f"attention on {device}", state, text)


def shipped_model() -> Iterator[Finding]:
    """The miniature model's files with their hashes, and one segmentation with it."""
    import hashlib

    import numpy as np

    import frozenseg

    folder = Path(frozenseg.__file__).parent / "weights" / "shapes"
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        size = path.stat().st_size / 2**20
        text = f"{size:.2f} MiB, sha256 {digest}"
        yield Finding(path.relative_to(folder).as_posix(), State.well, text)
    segmenter = frozenseg.load("shapes", device="cpu")
    found = segmenter(np.zeros((64, 64, 3), dtype=np.uint8), ["red circle", "grass [stuff]"])
    shape = None if found.panoptic is None else tuple(found.panoptic.ids.shape)
    assert shape == (64, 64), f"a 64 x 64 image gave a map of shape {shape}"
    yield Finding("shapes model", State.well, "loads and segments")


def folders() -> Iterator[Finding]:
    """The cache, and where data sets are looked for."""
    from frozenseg.io.files import atomic_write, cache_folder

    cache = cache_folder()
    with atomic_write(cache / "doctor") as part:
        part.write_text("")
    (cache / "doctor").unlink()
    yield Finding("cache", State.well, f"{cache} can be written")
    datasets = Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))
    there = datasets.is_dir()
    text = f"{datasets.resolve()}" + ("" if there else " does not exist (shapes needs none)")
    yield Finding("data sets", State.well if there else State.note, text)


def detectron2() -> Iterator[Finding]:
    """Whether the Detectron2 engine can be chosen."""
    spec = find_spec("detectron2")
    if spec is None:
        yield Finding("Detectron2", State.note, "not installed: the native engine does everything")
        return
    try:
        version = metadata.version("detectron2")
    except metadata.PackageNotFoundError:  # on PYTHONPATH, say
        version = f"imported from {spec.origin}"
    yield Finding("Detectron2", State.well, version)


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "packages": python_and_packages,
    "devices": devices,
    "deformable attention": deformable_attention,
    "shipped model": shipped_model,
    "folders": folders,
    "Detectron2": detectron2,
}
