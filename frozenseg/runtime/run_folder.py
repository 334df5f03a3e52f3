"""Records of a run in its folder: configuration, machine, code and log."""

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
from rich.logging import RichHandler

from frozenseg.errors import UserError
from frozenseg.io.documents import read_yaml_mapping
from frozenseg.io.files import make_folder
from frozenseg.io.gates import reason_of
from frozenseg.io.writing import optional_file, write_text
from frozenseg.runtime.progress import console

logger = logging.getLogger(__name__)

PACKAGES = ("frozenseg", "numpy", "open_clip_torch", "timm", "torch", "torchvision")
VARIABLES = ("CUDA_VISIBLE_DEVICES", "DETECTRON2_DATASETS", "OMP_NUM_THREADS", "SLURM_JOB_ID")
CONFIG = "config.yaml"
DIFF = "code.diff"
CODE = Path(__file__).resolve().parents[2]


def describe_run(folder: Path, config: str, *, engine: str, resumed: bool = False) -> None:
    """Writes ``config.yaml``, ``environment.json`` and, for a changed checkout, ``code.diff``.

    A file that cannot be written is a warning.

    Args:
        folder: of the run.
        config: the complete configuration as YAML.
        engine: "native" or "detectron2".
        resumed: log the keys that have changed since the run began.
    """
    if resumed:
        _log_changes(folder / CONFIG, config)
    commit, diff, new_files = git_state(CODE)
    about = {"engine": engine, **environment(), "commit": commit, "files_not_in_git": new_files}
    with optional_file("the description of the run"):
        write_text(folder / CONFIG, config)
        write_text(folder / "environment.json", json.dumps(about, indent=2) + "\n")
        if diff:
            write_text(folder / DIFF, diff)
        else:
            (folder / DIFF).unlink(missing_ok=True)  # of an earlier part of the run


def _log_changes(path: Path, config: str) -> None:
    if not path.exists():
        return
    try:
        before = read_yaml_mapping(path)
    except UserError as error:
        logger.warning("changes since the run began are not known: %s", error)
        return
    for key, old, new in differences(before, yaml.safe_load(config)):
        logger.info("changed since the run began: %s was %s, is %s", key, old, new)


def environment() -> dict[str, object]:
    """Returns the command, the machine and the versions that a result may depend on."""
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
    """Returns the commit of a checkout, the changes since then, and untracked Python files.

    Without a checkout there is neither commit nor change.
    """
    if not (folder / ".git").exists():
        return None, "", []
    commit = _git(folder, "rev-parse", "HEAD").strip() or None
    unknown = _git(folder, "ls-files", "--others", "--exclude-standard", "*.py").splitlines()
    return commit, _git(folder, "diff", "HEAD"), unknown


def flat(values: Mapping, prefix: str = "") -> dict[str, object]:
    """Returns nested mappings as one with dotted keys; tuples become lists, as in a file."""
    found: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def differences(before: Mapping, after: Mapping) -> Iterator[tuple[str, object, object]]:
    """Yields keys whose values differ, with both values; None for a missing key."""
    old, new = flat(before), flat(after)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def set_up_logging(folder: Path, *, rank: int = 0) -> None:
    """Logs to the console and to ``log.txt``; other processes to ``log.txt.rank1`` and so on.

    Args:
        folder: of the run.
        rank: of the process; others than 0 show only warnings on the console.

    Raises:
        UserError: the folder or the file cannot be written.
    """
    make_folder(folder)
    path = folder / ("log.txt" if rank == 0 else f"log.txt.rank{rank}")
    try:
        file = _LogFile(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({reason_of(error)}): fix this or choose another OUTPUT_DIR"
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


class _LogFile(logging.FileHandler):
    """A log file that a full disk does not turn into a traceback per line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Stops writing the file and says so on the console."""
        logging.getLogger("frozenseg").removeHandler(self)
        logger.warning("%s cannot be written: the run continues without it", self.baseFilename)


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
    except (OSError, subprocess.CalledProcessError):  # no git, or a checkout of another user
        return ""
