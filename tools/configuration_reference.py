"""Writes docs/configuration.md: every configuration key, its default, its values, its meaning.

The meanings are the comments of ``frozenseg/config/keys.py``: at the end of the line that sets the
key, or on the lines before it.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.config import keys
from frozenseg.config.allowed import ALLOWED
from frozenseg.config.keys import ACCEPTED_UNUSED, default_config, known_keys

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
LONGEST_VALUE = 60  # characters of a default in the table
HEAD = """# Configuration reference

<!-- Written by tools/configuration_reference.py from frozenseg/config/: do not edit. -->

A configuration is a YAML file that names the keys it changes; `_BASE_` names a file that it builds
on. On command lines, `--set KEY=VALUE` (`frozenseg`) or `KEY VALUE` (`train_net.py`) overrides a
key. An unknown key or a value out of range is an error that names the nearest key or the allowed
values. `train_net.py --config-file FILE --dump-config` prints the complete configuration. The keys
are Detectron2's and those of the official files, which load unchanged.
"""


def main() -> None:
    PAGE.write_text(reference(), encoding="utf-8")


def reference() -> str:
    """Returns the page as Markdown: one table per section."""
    cfg, meanings = default_config(), dict(_meanings())
    sections: dict[str, list[str]] = {}
    for key in known_keys(cfg):
        if key not in ACCEPTED_UNUSED:
            section, _, name = key.rpartition(".")
            row = (f"`{name}`", _default(cfg, key), _allowed(key), meanings[key])
            sections.setdefault(section, []).append(" | ".join(row))
    parts = [HEAD]
    for section, rows in sections.items():
        title = f"`{section}`" if section else "Top level"
        table = "".join(f"| {row} |\n" for row in rows)
        parts.append(
            f"## {title}\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n{table}"
        )
    unused = ", ".join(f"`{key}`" for key in ACCEPTED_UNUSED)
    parts.append(
        f"## Accepted and unused\n\nOfficial files set these keys; nothing reads them: {unused}.\n"
    )
    return "\n".join(parts)


def _default(cfg: CfgNode, key: str) -> str:
    value = cfg
    for part in key.split("."):
        value = value[part]
    text = repr(value)
    return f"`{text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 4] + ' ...'}`"


def _allowed(key: str) -> str:
    rule = ALLOWED.get(key)
    return "" if rule is None else rule.expected.replace("|", "\\|")


def _meanings() -> Iterator[tuple[str, str]]:
    """Yields every key with the comment of its line in ``keys.py``."""
    source = inspect.getsource(keys)
    tree = ast.parse(source)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    yield from _meanings_in(functions["default_config"], "", functions, source.splitlines())


def _meanings_in(
    function: ast.FunctionDef,
    prefix: str,
    functions: dict[str, ast.FunctionDef],
    lines: list[str],
) -> Iterator[tuple[str, str]]:
    for statement in function.body:
        if not isinstance(statement, ast.Assign) or isinstance(statement.targets[0], ast.Name):
            continue
        name = ast.unparse(statement.targets[0]).partition(".")[2]  # without the section's variable
        value, key = statement.value, prefix + name
        called = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
        if called in functions:
            yield from _meanings_in(functions[called], f"{key}.", functions, lines)
        elif called == "CfgNode":
            for literal in getattr(value, "args", ()):
                for each in literal.keys:
                    yield f"{key}.{each.value}", _comment(each.lineno, lines)
        else:
            yield key, _comment(statement.lineno, lines)


def _comment(number: int, lines: list[str]) -> str:
    """Returns the comment at the end of a line, or else the one on the lines before it."""
    own = lines[number - 1].partition("  # ")[2]
    if own:
        return own
    before: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.lstrip().startswith("# "):
            break
        before.insert(0, line.strip().removeprefix("# "))
    return " ".join(before)


if __name__ == "__main__":
    main()
