"""Reading a configuration: defaults, YAML files with their ``_BASE_`` chain, overrides."""

import ast
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from frozenseg.config.allowed import check_config
from frozenseg.config.keys import default_config, known_keys
from frozenseg.errors import ConfigError, UserError
from frozenseg.io.documents import read_yaml_mapping
from frozenseg.io.files import is_file, user_path
from frozenseg.io.text import cut, one_line, quoted

PACKAGE = Path(__file__).resolve().parents[1]
# a wheel carries the files inside the package, a checkout beside it
CONFIG_ROOT = next(
    folder for folder in (PACKAGE / "configs", PACKAGE.parent / "configs") if folder.is_dir()
)
BASE = "_BASE_"
MAX_CHAIN = 20  # files, each the base of the one before
MAX_VALUE = 10_000  # characters of one value that are parsed as Python
COMMAND_LINE = "the command line"


def load_config(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    over: Sequence[str | Path] = (),
) -> CfgNode:
    """Returns the defaults, changed by the file and its ``_BASE_`` chain, then by pairs; frozen.

    Args:
        path: a YAML file, also looked up under ``configs/``; None: defaults only.
        overrides: ``KEY VALUE`` pairs, one after the other, applied last.
        over: further files that are applied before the pairs, without their ``_BASE_``.

    Raises:
        ConfigError: an unknown key (the nearest known one is named), a value that is not allowed,
            a missing or unreadable file.
    """
    cfg, sources = default_config(), {}
    for file, content in _contents(path, over):
        _merge(cfg, content, prefix="", source=one_line(file), sources=sources)
    if len(overrides) % 2:
        raise ConfigError(
            f"overrides come in pairs KEY VALUE; {quoted(overrides[-1])} has no value"
        )
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        _set(cfg, key, value, sources)
    check_config(cfg, sources=sources)
    cfg.freeze()
    return cfg


def _contents(
    path: str | Path | None, over: Sequence[str | Path]
) -> list[tuple[Path, Mapping[str, Any]]]:
    """Returns the files with their own keys, in the order in which they apply."""
    chain = [] if path is None else _read_chain(_find(path))
    alone = [(file, _read(file)[0]) for file in map(_find, over)]
    return [*chain, *alone]


def find_config(path: str | Path) -> Path | None:
    """Returns a YAML file, also looked up under ``configs/``; None if it does not exist."""
    path = user_path(path)
    candidates = (path, CONFIG_ROOT / path, CONFIG_ROOT / f"{path}.yaml")
    return next(filter(is_file, candidates), None)


def _find(path: str | Path) -> Path:
    if (found := find_config(path)) is not None:
        return found
    raise ConfigError(
        f"no configuration file {cut(one_line(path))}: give a YAML file, or a name under "
        f"{one_line(CONFIG_ROOT)}"
    )


def _read_chain(path: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    chain: list[tuple[Path, Mapping[str, Any]]] = []
    seen: set[Path] = set()
    following: Path | None = path
    while following is not None:
        file = following
        if file.resolve() in seen or len(seen) == MAX_CHAIN:
            raise ConfigError(
                f"the {BASE} chain of {one_line(path)} comes back to {one_line(file)}: remove one "
                f"{BASE} line"
                if file.resolve() in seen
                else f"the {BASE} chain of {one_line(path)} has more than {MAX_CHAIN} files: join "
                "some of them"
            )
        seen.add(file.resolve())
        content, base = _read(file)
        chain.insert(0, (file, content))
        following = None if base is None else _base_path(base, file)
    return chain


def _read(file: Path) -> tuple[dict[str, Any], object]:
    """Returns a file's own keys, and its ``_BASE_``."""
    try:
        content = read_yaml_mapping(file)
    except UserError as error:
        raise ConfigError(str(error)) from error
    return content, content.pop(BASE, None)


def _base_path(base: object, file: Path) -> Path:
    if file.suffix == ".json":  # a model's folder is complete, and may come from anywhere
        raise ConfigError(
            f"{one_line(file)} has the {BASE} {quoted(base)}, which the configuration of a model's "
            "folder cannot have: save the model again"
        )
    if not isinstance(base, str) or not base:
        raise ConfigError(
            f"{one_line(file)} has the {BASE} {quoted(base)}: give the path of one file, relative "
            "to it"
        )
    path = file.parent / user_path(base)
    try:
        found = path.is_file()
    except OSError:
        found = False
    if not found:
        raise ConfigError(
            f"{one_line(file)} names a {BASE} file that does not exist: {cut(one_line(path))}; "
            "correct the path"
        )
    return path


def _merge(
    cfg: CfgNode, loaded: Mapping[str, Any], *, prefix: str, source: str, sources: dict[str, str]
) -> None:
    """Applies the keys of a file.

    Args:
        cfg: the section that changes.
        loaded: keys and values for it.
        prefix: name of the section, ending in a dot.
        source: the file, for messages.
        sources: records where each key got its value.
    """
    for key, value in loaded.items():
        name = prefix + key
        if key not in cfg:
            raise ConfigError(f"{source}: unknown key {cut(one_line(name))}{_nearest(name)}")
        if not isinstance(cfg[key], CfgNode):
            cfg[key] = _fitted(value, cfg[key], name=name, source=source)
            sources[name] = source
        elif isinstance(value, dict):
            _merge(cfg[key], value, prefix=f"{name}.", source=source, sources=sources)
        else:
            raise ConfigError(
                f"{source}: {name} is a section of keys; got {quoted(value)}: write the keys below "
                "it"
            )


def _set(cfg: CfgNode, name: str, value: object, sources: dict[str, str]) -> None:
    *parents, key = str(name).split(".")
    node: object = cfg
    for parent in parents:
        node = node.get(parent) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or key not in node or isinstance(node[key], CfgNode):
        raise ConfigError(f"{COMMAND_LINE}: unknown key {cut(one_line(name))}{_nearest(str(name))}")
    node[key] = _fitted(value, node[key], name=name, source=COMMAND_LINE)
    sources[name] = COMMAND_LINE


def _fitted(value: object, default: object, *, name: str, source: str) -> object:
    """Returns a value in the type of the key's default.

    Text is parsed as Python where the key is no text, as in Detectron2: ``(3, 6, 9)``. A whole
    number fits a float, a list a tuple.
    """
    if isinstance(value, str) and not isinstance(default, str):
        value = _parsed(value)
    if isinstance(value, str) and isinstance(default, str):
        return _unquoted(value)
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return type(default)(value)
    if type(value) is int and isinstance(default, float) and abs(value) < 2**53:
        return float(value)
    if type(value) is not type(default):
        hint = (
            "" if isinstance(value, (str, int, float, list, tuple, dict)) else "; put it in quotes"
        )
        raise ConfigError(
            f"{source}: {name} must be of type {type(default).__name__}, as in {default!r}; got "
            f"{quoted(value)}{hint}"
        )
    return value


def _parsed(text: str) -> object:
    if len(text) > MAX_VALUE:
        return text
    try:
        return ast.literal_eval(text)
    except Exception:  # it is text, or no Python: RecursionError, MemoryError, ...
        return text


def _unquoted(text: str) -> str:
    """Removes the quotes of ``KEY '"value"'``, which Detectron2 accepts."""
    parsed = _parsed(text) if text[:1] in ("'", '"') else text
    return parsed if isinstance(parsed, str) else text


def _nearest(name: str) -> str:
    known = known_keys()
    same_leaf = [key for key in known if key.split(".")[-1] == name.split(".")[-1]]
    close = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.5) or same_leaf[:1]
    return f"; the nearest known key is {close[0]}" if close else "; no known key is near it"
