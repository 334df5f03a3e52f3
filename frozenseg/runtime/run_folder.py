"""What a run leaves about itself: its configuration, the machine, the code; its log."""

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import yaml
from fvcore.common.config import CfgNode
from rich.logging import RichHandler

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write, make_folder
from frozenseg.runtime.progress import console

logger = logging.getLogger(__name__)

PACKAGES = ("frozenseg", "numpy", "open_clip_torch", "timm", "torch", "torchvision")
VARIABLES = ("CUDA_VISIBLE_DEVICES", "DETECTRON2_DATASETS", "OMP_NUM_THREADS", "SLURM_JOB_ID")
CONFIG = "config.yaml"
DIFF = "code.diff"
CODE = Path(__file__).resolve().parents[2]


def describe_run(folder: Path, cfg: CfgNode, *, engine: str, resumed: bool = False) -> None:
    """Writes ``config.yaml``, ``environment.json`` and, for a changed checkout, ``code.diff``.

    Of a run that is resumed, the log says which keys have changed.
    """
    if resumed:
        _log_changes(folder / CONFIG, cfg)
    commit, diff, new_files = git_state(CODE)
    with atomic_write(folder / CONFIG) as part:
        part.write_text(cfg.dump(), encoding="utf8")
    about = {"engine": engine, **environment(), "commit": commit, "files_not_in_git": new_files}
    with atomic_write(folder / "environment.json") as part:
        part.write_text(json.dumps(about, indent=2) + "\n")
    if diff:
        with atomic_write(folder / DIFF) as part:
            part.write_text(diff, encoding="utf8")
    else:
        (folder / DIFF).unlink(missing_ok=True)  # of an earlier part of the run


def _log_changes(path: Path, cfg: CfgNode) -> None:
    if path.exists():
        before = yaml.safe_load(path.read_text(encoding="utf8"))
        for key, old, new in differences(before, cfg):
            logger.info("changed since the run began: %s was %s, is %s", key, old, new)


def environment() -> dict[str, object]:
    """The command, the machine and the versions that a result may depend on."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "packages": {name: _version(name) for name in PACKAGES},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def git_state(folder: Path) -> tuple[str | None, str, list[str]]:
    """The commit of a checkout, what was changed since, and files of Python that git has not got.

    Nothing where there is no checkout.
    """
    if not (folder / ".git").exists():
        return None, "", []
    commit = _git(folder, "rev-parse", "HEAD").strip() or None
    unknown = _git(folder, "ls-files", "--others", "--exclude-standard", "*.py").splitlines()
    return commit, _git(folder, "diff", "HEAD"), unknown


def config_digest(cfg: CfgNode) -> str:
    """A short name of everything that a configuration says, but for where results go."""
    values = {key: value for key, value in flat(cfg).items() if key != "OUTPUT_DIR"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def flat(values: Mapping, prefix: str = "") -> dict[str, object]:
    """Nested mappings as one with dotted keys; tuples become lists, as in a file."""
    found: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def differences(before: Mapping, after: Mapping) -> Iterator[tuple[str, object, object]]:
    """Keys whose values differ, with both; None where a key is missing."""
    old, new = flat(before), flat(after)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def set_up_logging(folder: Path, *, rank: int = 0) -> None:
    """Logs to the console and to ``log.txt``; further processes to ``log.txt.rank1`` and so on.

    On the console, further processes say no more than warnings.
    """
    make_folder(folder)
    path = folder / ("log.txt" if rank == 0 else f"log.txt.rank{rank}")
    try:
        file = logging.FileHandler(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): mend that, or choose another OUTPUT_DIR"
        ) from error
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    shown: logging.Handler
    if console.is_terminal:
        shown = RichHandler(console=console, show_path=False)
    else:
        shown = logging.StreamHandler()
        shown.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%m/%d %H:%M:%S"))
    shown.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    logger = logging.getLogger("frozenseg")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(file)
    logger.addHandler(shown)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or a checkout of someone else's
        return ""
