"""Makes a failing case smaller while it fails in the same way."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tools.fuzz.case import Case, Outcome

TRIES = 40
SECONDS = 15.0


def reduced(case: Case, outcome: Outcome, run: Callable[[Case], Outcome]) -> Case:
    """The smallest case that was found within a few tries."""
    start, tries = time.monotonic(), 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(case):
            if tries >= TRIES or time.monotonic() - start > SECONDS:
                return case
            tries += 1
            if candidate.size < case.size and run(candidate).signature == outcome.signature:
                case, smaller = candidate, True
                break
    return case


def _candidates(case: Case) -> Iterator[Case]:
    for name in case.files:
        yield replace(case, files={key: data for key, data in case.files.items() if key != name})
    for arguments in _smaller_json(case.arguments, keep_keys=True):
        yield replace(case, arguments=arguments)
    for name, data in case.files.items():
        for content in _smaller_bytes(data):
            yield replace(case, files={**case.files, name: content})


def _smaller_bytes(data: bytes) -> Iterator[bytes]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        for parts in (2, 4, 8):
            size = max(1, len(data) // parts)
            for start in range(0, len(data), size):
                yield data[:start] + data[start + size :]
        return
    for smaller in _smaller_json(value):
        yield json.dumps(smaller).encode()


def _smaller_json(value: Any, *, keep_keys: bool = False) -> Iterator[Any]:
    """Copies with one part left out or made simple; outer parts first."""
    if isinstance(value, list):
        if len(value) > 3:
            yield value[: len(value) // 2]
            yield value[len(value) // 2 :]
        for index in range(min(len(value), 20)):
            yield value[:index] + value[index + 1 :]
        for index, inner in enumerate(value[:20]):
            for smaller in _smaller_json(inner):
                yield [*value[:index], smaller, *value[index + 1 :]]
    elif isinstance(value, dict):
        if not keep_keys:
            for key in value:
                yield {name: each for name, each in value.items() if name != key}
        for key, inner in value.items():
            for smaller in _smaller_json(inner):
                yield {**value, key: smaller}
    elif isinstance(value, str) and len(value) > 40:  # shorter ones are often names
        yield value[: len(value) // 2]
        yield value[len(value) // 2 :]
