"""Rules about single configuration values: choices, ranges, texts and lists of them."""

import re
from collections.abc import Callable
from typing import NamedTuple

from frozenseg.io.text import quoted

MAX_TEXT = 4096  # characters of a path or a name
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Rule(NamedTuple):
    """A condition on a value, as a phrase and as a test."""

    expected: str
    fits: Callable[[object], bool]
    choices: tuple[object, ...] = ()  # if there are few


def one_of(*choices: object) -> Rule:
    """One of these values, with their type."""
    names = " or ".join(quoted(choice) for choice in choices)
    return Rule(names, lambda value: any(_equal(value, each) for each in choices), choices)


def whole(low: int, high: int) -> Rule:
    """An int from ``low`` to ``high``, both included."""
    return Rule(
        f"a whole number from {low:,} to {high:,}",
        lambda value: type(value) is int and low <= value <= high,
    )


def number(low: float, high: float, *, above: bool = False) -> Rule:
    """A float from ``low`` to ``high``, both included; ``above`` leaves ``low`` out."""
    return Rule(
        f"a number above {low:g} and up to {high:g}"
        if above
        else f"a number from {low:g} to {high:g}",
        lambda value: (
            type(value) in (int, float) and low <= value <= high and not (above and value == low)  # pyright: ignore[reportOperatorIssue]
        ),
    )


def text(pattern: str = "", expected: str = "printable text") -> Rule:
    """Text without control characters that matches the whole pattern, if one is given."""

    def fits(value: object) -> bool:
        if not isinstance(value, str) or len(value) > MAX_TEXT or _CONTROL.search(value):
            return False
        return not pattern or re.fullmatch(pattern, value) is not None

    return Rule(expected, fits)


def sequence(of: Rule, *, length: int | None = None, longest: int = 1000) -> Rule:
    """A list or tuple whose elements fit a rule."""

    def fits(value: object) -> bool:
        if not isinstance(value, (list, tuple)) or len(value) > longest:
            return False
        return length in (None, len(value)) and all(of.fits(each) for each in value)

    return Rule(f"{length or 'any number of'} values, each {of.expected}", fits)


def switch() -> Rule:
    """True or False."""
    return Rule("True or False", lambda value: isinstance(value, bool))


def _equal(value: object, choice: object) -> bool:
    return type(value) is type(choice) and value == choice
