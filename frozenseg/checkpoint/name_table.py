"""Tables of weight names, official and ours, that are read both ways."""

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

Rule = tuple[re.Pattern[str], str, Callable[[int], int]]


class _Line(NamedTuple):
    """One line of a table; our number is ``factor`` times the official one, plus ``shift``."""

    official: str
    ours: str
    factor: int
    shift: int

    def our_number(self, number: int) -> int:
        return number * self.factor + self.shift

    def official_number(self, number: int) -> int:
        return (number - self.shift) // self.factor


class NameTable:
    """Translates names of weights by the first line that fits.

    A line holds an official name and ours. "*" is the end of a name and "#" a number, which in our
    name may be changed: "#x2" doubles it (the layers of a perceptron are every second part), "#+1"
    and "#-1" count from another start.

    Args:
        lines: the table; empty lines are skipped.
        short: abbreviations of parts of names, and what they stand for.
    """

    def __init__(self, lines: str, short: Mapping[str, str]) -> None:
        self._lines = [_parse(line, short) for line in filter(None, lines.splitlines())]

    @cached_property  # most runs read our own names only, and patterns take time to compile
    def _to_ours(self) -> list[Rule]:
        return [(_pattern(line.official), line.ours, line.our_number) for line in self._lines]

    @cached_property
    def _to_official(self) -> list[Rule]:
        return [(_pattern(line.ours), line.official, line.official_number) for line in self._lines]

    def ours(self, name: str) -> str | None:
        """Returns our name of an official one; None if there is none."""
        return _translate(name, self._to_ours)

    def official(self, name: str) -> str | None:
        """Returns the official name of one of ours; None if there is none."""
        return _translate(name, self._to_official)


def _translate(name: str, rules: list[Rule]) -> str | None:
    for pattern, template, count in rules:
        if match := pattern.fullmatch(name):
            parts = match.groupdict()
            number = str(count(int(parts["number"]))) if "number" in parts else ""
            return template.replace("#", number).replace("*", parts.get("rest", ""))
    return None


def _parse(text: str, short: Mapping[str, str]) -> _Line:
    official, ours = (_spelled_out(name, short) for name in text.split())
    return _Line(
        official,
        re.sub(r"#(x2|\+1|-1)", "#", ours),
        factor=2 if "#x2" in ours else 1,
        shift=1 if "#+1" in ours else -1 if "#-1" in ours else 0,
    )


def _spelled_out(name: str, short: Mapping[str, str]) -> str:
    return ".".join(short.get(part, part) for part in name.split("."))


def _pattern(name: str) -> re.Pattern[str]:
    escaped = re.escape(name).replace(r"\#", r"(?P<number>\d+)").replace(r"\*", "(?P<rest>.+)")
    return re.compile(escaped)
