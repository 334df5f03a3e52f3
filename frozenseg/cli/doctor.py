"""``frozenseg doctor``: reports what is installed, which kernels run, and if the model works."""

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
from rich.table import Table

from frozenseg.cli.console import console, errors
from frozenseg.io.text import markup

TOLERANCE = 1e-4  # well above the float32 rounding of a small case


class State(Enum):
    ok = "[green]ok[/]"
    note = "[yellow]note[/]"
    failed = "[bold red]failed[/]"


class Finding(NamedTuple):
    """One line of the report."""

    what: str
    state: State
    text: str


def doctor() -> None:
    """Report what is installed and whether it works; exits with status 1 if a check failed.

    Example: frozenseg doctor
    """
    table = Table("", "what", "found", show_header=False, box=None, padding=(0, 1))
    num_failed = 0
    for title, check in CHECKS.items():
        with errors.status(title):
            findings = examine(title, check)
        for what, state, text in findings:
            num_failed += state is State.failed
            table.add_row(state.value, markup(what), markup(text))
    console.print(table)
    if num_failed:
        console.print(f"[bold red]{num_failed} checks failed[/]")
        raise typer.Exit(1)
    console.print("[green]all checks passed[/]")


def examine(title: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Returns the findings of a check; a check that raises is a failed finding."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:  # reporting any failure is the purpose of this command
        reason = " ".join(str(error).split()) or type(error).__name__
        findings.append(Finding(title, State.failed, reason))
    return findings


def python_and_packages() -> Iterator[Finding]:
    """Checks Python and the version of every required library."""
    from packaging.requirements import Requirement

    yield Finding("Python", State.ok, f"{platform.python_version()} at {sys.executable}")
    for line in metadata.requires("frozenseg") or ():
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        yield _package(need.name, need.specifier)


def _package(name: str, wanted) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, State.failed, f"is not installed: pip install '{name}{wanted}'")
    if not wanted.contains(version, prereleases=True):
        return Finding(name, State.failed, f"{version}, but {wanted} is needed")
    return Finding(name, State.ok, version)


def devices() -> Iterator[Finding]:
    """Reports processors and GPUs."""
    import torch

    cores = os.cpu_count()
    yield Finding("CPU", State.ok, f"{cores} cores; PyTorch uses {torch.get_num_threads()}")
    if not torch.cuda.is_available():
        yield Finding("CUDA", State.note, "no device: everything runs on the CPU")
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        memory = about.total_memory / 2**30
        yield Finding(f"cuda:{index}", State.ok, f"{about.name}, {memory:.0f} GiB")


def deformable_attention() -> Iterator[Finding]:
    """Compares the implementation of each device with the reference."""
    import torch

    from frozenseg.ops.ms_deform_attn import agrees_with_reference, implementation

    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        name, difference = implementation(device), agrees_with_reference(device)
        agrees = difference <= TOLERANCE  # False for nan
        compiled = name.startswith("compiled")
        verdict = "agrees with" if agrees else "DISAGREES with"
        text = f"{name}; {verdict} the reference (largest difference {difference:.1e})"
        if agrees and not compiled:
            text = f"{name}: no compiled kernel, so this is slower"
        state = State.failed if not agrees else State.ok if compiled else State.note
        yield Finding(f"attention on {device}", state, text)


def shipped_model() -> Iterator[Finding]:
    """Reports the miniature model's files with their hashes, and segments one image."""
    import hashlib

    import numpy as np

    import frozenseg

    folder = Path(frozenseg.__file__).parent / "weights" / "shapes"
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        size = path.stat().st_size / 2**20
        text = f"{size:.2f} MiB, sha256 {digest}"
        yield Finding(path.relative_to(folder).as_posix(), State.ok, text)
    segmenter = frozenseg.load("shapes", device="cpu")
    found = segmenter(np.zeros((64, 64, 3), dtype=np.uint8), ["red circle", "grass [stuff]"])
    shape = None if found.panoptic is None else tuple(found.panoptic.ids.shape)
    assert shape == (64, 64), f"a 64 x 64 image gave a map of shape {shape}"
    yield Finding("shapes model", State.ok, "loads and segments")


def folders() -> Iterator[Finding]:
    """Checks the cache folder, and the folder of data sets."""
    yield _cache_finding()
    datasets = Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))
    there = datasets.is_dir()
    text = f"{datasets.resolve()}" + ("" if there else " does not exist (shapes needs none)")
    yield Finding("data sets", State.ok if there else State.note, text)


def _cache_finding() -> Finding:
    from frozenseg.errors import UserError
    from frozenseg.io.files import atomic_write, cache_folder

    cache = cache_folder()
    try:
        with atomic_write(cache / "doctor") as part:
            part.write_text("")
        (cache / "doctor").unlink()
    except (UserError, OSError) as error:  # a cache is a convenience
        text = f"nothing is kept between runs ({error}), or set FROZENSEG_CACHE"
        return Finding("cache", State.note, text)
    return Finding("cache", State.ok, f"{cache} can be written")


def detectron2() -> Iterator[Finding]:
    """Reports if the Detectron2 engine is available."""
    spec = find_spec("detectron2")
    if spec is None:
        yield Finding("Detectron2", State.note, "not installed: the native engine is used")
        return
    try:
        version = metadata.version("detectron2")
    except metadata.PackageNotFoundError:  # on PYTHONPATH, say
        version = f"imported from {spec.origin}"
    yield Finding("Detectron2", State.ok, version)


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "packages": python_and_packages,
    "devices": devices,
    "deformable attention": deformable_attention,
    "shipped model": shipped_model,
    "folders": folders,
    "Detectron2": detectron2,
}
