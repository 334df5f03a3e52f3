"""JSON and YAML files that anyone may have written."""

import json
from pathlib import Path
from typing import Any

import yaml

from frozenseg.errors import UserError
from frozenseg.io.gates import parser_gate, read_text
from frozenseg.io.text import one_line, quoted

MAX_JSON_BYTES = 1 << 30  # annotation files of COCO and LVIS have up to 0.5 GiB
MAX_YAML_BYTES = 1 << 18  # the parser reads about 100 KiB per second
MAX_YAML_DEPTH = 40


def read_json(
    path: Path, *, expected: type | tuple[type, ...] = dict, max_bytes: int = MAX_JSON_BYTES
) -> Any:
    """Returns the content of a JSON file.

    Args:
        path: a UTF-8 file.
        expected: type of the whole content.
        max_bytes: size above which the file is not opened.

    Raises:
        UserError: it cannot be read, is not JSON, or holds another type.
    """
    text = read_text(path, max_bytes=max_bytes)
    with parser_gate(path, expected="JSON", advice="get or create it again"):
        content = json.loads(text)
    if not isinstance(content, expected):
        kinds = expected if isinstance(expected, tuple) else (expected,)
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(
            f"{one_line(path)} holds a {type(content).__name__} where a {names} is expected: get "
            "or create it again"
        )
    return content


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Returns the mapping of a YAML file with plain values: text, numbers, lists, mappings.

    Raises:
        UserError: as for ``read_yaml``; or it is empty, no mapping, or has a key that is not text.
    """
    content = read_yaml(path)
    if content is None:
        raise UserError(f"{one_line(path)} is empty: write at least one KEY: VALUE")
    if not isinstance(content, dict):
        raise UserError(
            f"{one_line(path)} is not a plain YAML mapping (it holds a {type(content).__name__}): "
            "write KEY: VALUE lines"
        )
    _check_keys(content, path)
    return content


def read_yaml(path: Path) -> Any:
    """Returns the content of a YAML file with plain values.

    Aliases are refused, because a few of them can describe more values than memory holds.

    Raises:
        UserError: it cannot be read, is not one plain document, is nested more than 40 levels deep,
            or has aliases; the line is named where it is known.
    """
    text = read_text(path, max_bytes=MAX_YAML_BYTES)
    with parser_gate(path, expected="a plain YAML mapping", advice="fix it and try again"):
        _check_events(text, path)
        return yaml.safe_load(text)


def _check_events(text: str, path: Path) -> None:
    """Refuses what would exhaust the composer, which unlike the event parser is recursive."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(
                f"{one_line(path)} line {event.start_mark.line + 1} uses the alias "
                f"{quoted('*' + event.anchor)}: write the value out"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_YAML_DEPTH:
            raise UserError(
                f"{one_line(path)} line {event.start_mark.line + 1} is nested more than "
                f"{MAX_YAML_DEPTH} levels deep: write it flatter"
            )


def _check_keys(content: dict[Any, Any], path: Path) -> None:
    for key, value in content.items():
        if not isinstance(key, str):
            raise UserError(
                f"{one_line(path)} has the key {quoted(key)}, which is not text: quote it or "
                "correct its name"
            )
        if isinstance(value, dict):
            _check_keys(value, path)
