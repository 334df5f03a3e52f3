"""Model names: each shipped configuration under a name, run folders, and YAML files."""

import difflib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from frozenseg.config.loading import CONFIG_ROOT, find_config
from frozenseg.errors import ConfigError, UserError
from frozenseg.io.files import is_file, is_folder, user_path
from frozenseg.io.text import cut, one_line, quoted

SHAPES = "shapes"  # the only model whose weights ship with the package
SHAPES_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / SHAPES / "head.safetensors"
# parts of the configuration folder that hold no whole models
_OTHER_FOLDERS = frozenset({"ablations", "eval", SHAPES})
_OTHER_FILES = frozenset({"base"})
FOLDER_CONFIG, FOLDER_JSON = "config.yaml", "config.json"
# of a finished training, of one of its checkpoints, of an exported model
FOLDER_WEIGHTS = ("model_final.safetensors", "weights.safetensors", "model.safetensors")

MAX_CONFIG_BYTES, MAX_WEIGHTS_BYTES = 1 << 18, 1 << 32  # of a repository's files


class ModelFiles(NamedTuple):
    """The files of a model; ``weights`` is None if the model comes without."""

    config: Path
    weights: Path | None = None


@cache
def model_names() -> dict[str, ModelFiles]:
    """Returns the files of each model that has a configuration in the package, by name.

    A name is the stem of the configuration with hyphens: ``frozenseg-convnext-large``.
    """
    names = {SHAPES: ModelFiles(CONFIG_ROOT / SHAPES / "frozenseg.yaml", SHAPES_WEIGHTS)}
    for path in sorted(CONFIG_ROOT.rglob("*.yaml")):
        folders = path.relative_to(CONFIG_ROOT).parts[:-1]
        if path.stem not in _OTHER_FILES and _OTHER_FOLDERS.isdisjoint(folders):
            names[path.stem.replace("_", "-")] = ModelFiles(path)
    return names


def model_files(model: str | Path, *, revision: str | None = None) -> ModelFiles:
    """Returns the files of a model.

    Args:
        model: a name of ``model_names``, a folder with ``config.yaml`` or ``config.json`` and
            weights, a YAML file, also one below ``configs/``, or a repository on the hub.
        revision: commit, branch or tag of the repository; None is its newest state.

    Raises:
        UserError: there is no such model, or the folder has no configuration.
    """
    if not isinstance(model, (str, Path)):
        raise ConfigError(f"{quoted(model)} is not a model: give a name or a path as text")
    if named := model_names().get(str(model)):
        return named
    path = user_path(model)
    if is_folder(path):
        return _folder_files(path)
    if revision is not None or _is_on_hub(str(model)):
        return _hub_files(str(model), revision)
    if (config := find_config(path)) is not None:
        return ModelFiles(config)
    raise ConfigError(_unknown(str(model)))


def without_weights(model: str | Path) -> UserError:
    """Returns the error for a model whose weights were neither given nor found."""
    if is_folder(user_path(model)):
        file = f"one in the folder under the name {FOLDER_WEIGHTS[0]}"
    else:
        file = f"a file such as {model_files(model).config.stem}.pth"
    return UserError(
        f"the model {one_line(model)} comes without weights: give {file}, published or trained by "
        "you, with weights= or --weights"
    )


def _folder_files(folder: Path) -> ModelFiles:
    configs = (folder / FOLDER_CONFIG, folder / FOLDER_JSON)
    config = next(filter(is_file, configs), None)
    if config is None:
        raise UserError(
            f"the folder {one_line(folder)} has no {FOLDER_CONFIG} or {FOLDER_JSON}: give the "
            "folder of a finished training, a YAML file or a model's name"
        )
    weights = next(filter(is_file, (folder / name for name in FOLDER_WEIGHTS)), None)
    return ModelFiles(config, weights)


def _is_on_hub(model: str) -> bool:
    """Returns True for ``owner/name`` that is neither a configuration nor meant as a path."""
    if Path(model).suffix in (".yaml", ".yml") or find_config(user_path(model)) is not None:
        return False
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", model) is not None


def _hub_files(repository: str, revision: str | None) -> ModelFiles:
    from frozenseg.io.hub import hub_file  # the hub's client takes a while to import

    config = hub_file(repository, [FOLDER_JSON], revision=revision, max_bytes=MAX_CONFIG_BYTES)
    weights = hub_file(
        repository, [FOLDER_WEIGHTS[-1]], revision=revision, max_bytes=MAX_WEIGHTS_BYTES
    )
    return ModelFiles(config, weights)


def _unknown(model: str) -> str:
    close = difflib.get_close_matches(model[:200].replace("_", "-"), model_names(), n=1)
    known = f"the nearest name is {close[0]}" if close else f"names are {', '.join(model_names())}"
    return (
        f"no configuration file or model {cut(one_line(model))}: give a YAML file, a folder or a "
        f"name; {known}"
    )
