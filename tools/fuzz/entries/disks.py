"""Disks that are full, read-only or gone, at everything that writes.

A writer may refuse in one sentence or raise the operating system's own error, which commands turn
into one; afterwards, on a sound disk, it must do its work as if nothing had been.
"""

import builtins
import errno
import io
import json
import logging
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.entries.annotations import overlay
from tools.fuzz.entries.caches import _encode, _some_masks
from tools.fuzz.entries.preparation import SCRIPTS, run_script
from tools.fuzz.entries.runs import checkpoint, evaluated
from tools.fuzz.entries.weights import HEAD

LIMITS = (0, 1, 100, 300, 1000, 5000)  # bytes that a file may have
ERRORS = {
    "EROFS": errno.EROFS,
    "ENOSPC": errno.ENOSPC,
    "EIO": errno.EIO,
    "EACCES": errno.EACCES,
    "ENOENT": errno.ENOENT,
}


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file can grow beyond ``limit`` bytes: a full disk for code in any language."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def failing_calls(folder: Path, number: int, *, after: int) -> Iterator[None]:
    """Python's own calls that change ``folder`` fail with an error number, from one of them on."""
    calls = 0

    def failing(original: Callable, is_write: Callable[..., bool]) -> Callable:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal calls
            below = isinstance(path, str | os.PathLike) and str(folder) in os.path.abspath(path)
            if below and is_write(*arguments, **options):
                calls += 1
                if calls > after:
                    raise OSError(number, os.strerror(number), str(path))
            return original(path, *arguments, **options)

        return call

    def opens_to_write(mode: Any = "r", *_: Any, **options: Any) -> bool:
        mode = options.get("mode", mode)
        return (
            bool(mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if isinstance(mode, int)
            else not set("wax+").isdisjoint(mode)
        )

    def always(*_: Any, **__: Any) -> bool:
        return True

    targets = [
        (builtins, "open", opens_to_write),
        (io, "open", opens_to_write),
        (os, "open", opens_to_write),
    ]
    targets += [(os, name, always) for name in ("mkdir", "replace", "rename", "link", "symlink")]
    patches = [
        patch.object(owner, name, failing(getattr(owner, name), test))
        for owner, name, test in targets
    ]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in reversed(patches):
            each.stop()


def _text_rows(folder: Path) -> Any:
    from frozenseg.vocabulary import build_text_classifier, parse_vocabulary

    words = parse_vocabulary(["cat", "grass [stuff]"])
    rows = build_text_classifier(
        _encode, words, cache_dir=folder / "text", tower_fingerprint="f"
    ).embeddings
    return rows.tolist()


def _sam_masks(folder: Path) -> Any:
    from frozenseg.sam_masks.cache import CachedMasks, MaskCache
    from frozenseg.sam_masks.generator import MaskSettings

    image = torch.zeros(3, 24, 32, dtype=torch.uint8)
    cache = MaskCache(folder / "masks", sam_name="shapes", settings=MaskSettings())
    masks = CachedMasks(cache, lambda: (lambda _: _some_masks(), "f"))(image)
    return masks.low_res_logits.tolist()


def _weights(folder: Path) -> Any:
    from frozenseg.builders.weight_conversion import to_own_layout
    from frozenseg.config import load_config
    from frozenseg.io.weight_files import read_weights

    path = folder / "weights.safetensors"
    to_own_layout(HEAD, path, load_config("shapes/frozenseg.yaml"))
    return sorted(read_weights(path).tensors)


def _checkpoint(folder: Path) -> Any:
    from frozenseg.training.checkpoints import CheckpointFolder

    checkpoints = CheckpointFolder(folder / "checkpoints")
    checkpoints.save(checkpoint(2))
    newest = checkpoints.newest()
    return None if newest is None else newest.iteration


def _evaluation(folder: Path) -> Any:
    from frozenseg.metrics import write_report

    report = evaluated(folder / "evaluation", resume=True)
    write_report(folder / "evaluation", report.metrics, report.per_class)
    return json.dumps(report.metrics), (folder / "evaluation/metrics.json").read_text()


def _preparation(folder: Path) -> Any:
    status = run_script("prepare_coco", ["--root", str(folder), "--processes", "1"])
    if status == 2:
        raise OSError("the script has said so")
    made = sorted((folder / SCRIPTS["prepare_coco"].output).iterdir())
    return [(path.name, np.asarray(Image.open(path)).tolist()) for path in made]


def _metrics(folder: Path) -> Any:
    from frozenseg.training.metric_writers import JsonLines, OptionalWriter, TensorBoard

    writers = (
        OptionalWriter("metrics", lambda: JsonLines(folder / "metrics.jsonl")),
        OptionalWriter("TensorBoard", lambda: TensorBoard(folder / "tensorboard")),
    )
    for writer in writers:
        writer.write(1, {"loss": 0.5})
        writer.close()
    return True


def _log(folder: Path) -> Any:
    from frozenseg.runtime.run_folder import set_up_logging

    try:
        set_up_logging(folder / "run")
        logging.getLogger("frozenseg").warning("x" * 2000)
    finally:
        logger = logging.getLogger("frozenseg")
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            with suppress(OSError):  # as at the end of the process
                handler.close()
    return True


WRITERS: dict[str, Callable[[Path], Any]] = {
    "text_rows": _text_rows, "sam_masks": _sam_masks, "weights": _weights,
    "checkpoint": _checkpoint, "evaluation": _evaluation,
    "preparation": _preparation, "metrics": _metrics, "log": _log,
}  # fmt: skip
CONVENIENCES = ("text_rows", "sam_masks", "metrics", "log")  # work continues without them


def _make(rng: Random) -> Case:
    arguments: dict[str, Any] = {"writer": rng.choice(tuple(WRITERS))}
    if rng.random() < 0.5:
        arguments |= {"limit": rng.choice(LIMITS)}
    else:
        arguments |= {
            "error": rng.choice(tuple(ERRORS)),
            "after": rng.choice((0, 0, 1, 2, 3, 5, 9)),
        }
    return Case("disks", arguments)


def _run(arguments: Any, folder: Path) -> None:
    write = WRITERS[arguments["writer"]]
    expected = write(laid_out(folder / "sound"))
    bad = laid_out(folder / "bad")
    fault = (
        small_files(arguments["limit"])
        if "limit" in arguments
        else failing_calls(bad, ERRORS[arguments["error"]], after=arguments["after"])
    )
    failed = attempt(write, bad, fault, expected)
    if failed and arguments["writer"] in CONVENIENCES[:3] and failed != "UserError":
        raise WrongResult(f"work stops because of a file that is a convenience ({failed})")
    if write(bad) != expected:
        raise WrongResult("after a failure, the result on a sound disk differs")


def laid_out(folder: Path) -> Path:
    """A folder with what the writers read."""
    folder.mkdir()
    overlay(folder, "coco")
    return folder


def attempt(write: Callable[[Path], Any], folder: Path, fault: Any, expected: Any) -> str:
    """Writes on the bad disk; the name of the error, if any, that it refused with."""
    from frozenseg.errors import UserError

    with fault:
        try:
            found = write(folder)
        except (UserError, OSError) as error:
            return type(error).__name__
    if found != expected:
        raise WrongResult("on a bad disk, the result differs")
    return ""


ENTRIES = (Entry("disks", _make, _run, 1.0),)
