"""Seeded damage: to bytes, to JSON values, and as a list of edits for files that are too large."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

LONG = 3000

ODD_TEXTS = (
    "", " ", "7", "-1", "a\0b", "\ud800", "\x1b]0;title\x07", "[bold]x[/]", "[/]",
    "../../../victim.png",
    "/etc/hostname", "~nouser/x", "a/b", ".", "..", "é\u202e漢", "x" * LONG, "%s{}{0}", "\r\n",
    "nan", "1e999",
)  # fmt: skip
ODD_NUMBERS = (
    0, 1, -1, 2, 255, 256, -(2**31), 2**31, 2**32, 2**53 + 1, 2**63, 10**30, 0.5, -0.0, 1e-320,
    1e308, 10**6,
    float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
ODD_VALUES = (
    None,
    True,
    False,
    *ODD_TEXTS,
    *ODD_NUMBERS,
    [],
    {},
    [[]],
    [None],
    [{}],
    {"": None},
    [0] * 50,
)


def odd_value(rng: Random) -> Any:
    if rng.random() < 0.04:
        return nested(rng.choice((60, 900)))
    return rng.choice(ODD_VALUES)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def damaged_json(rng: Random, value: Any, *, times: int = 1) -> Any:
    """A copy of a JSON value with random nodes replaced, deleted, repeated or renamed."""
    value = json.loads(json.dumps(value))
    for _ in range(times):
        places = list(_places(value))
        if not places:
            return odd_value(rng)
        owner, key = _chosen(rng, places)
        _damage(rng, owner, key)
    return value


def _chosen(rng: Random, places: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Half of the time a place near the root, which large lists would otherwise hide."""
    return rng.choice(places[:12] if rng.random() < 0.3 else places)


def _places(value: Any):
    keys = (
        value.keys()
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def _damage(rng: Random, owner: Any, key: Any) -> None:
    action = rng.choice(("replace", "replace", "replace", "delete", "repeat", "rename", "near"))
    if action == "replace":
        owner[key] = odd_value(rng)
    elif action == "delete":
        del owner[key]
    elif action == "repeat" and isinstance(owner, list):
        owner.insert(key, owner[key])
    elif action == "rename" and isinstance(owner, dict):
        owner[rng.choice(ODD_TEXTS)] = owner.pop(key)
    elif isinstance(owner[key], int | float):
        owner[key] = rng.choice((owner[key] + 1, -owner[key], owner[key] * 1000, str(owner[key])))
    else:
        owner[key] = [owner[key]]


def json_bytes(rng: Random, value: Any) -> bytes:
    """A JSON value as a file's content, seldom in an odd encoding or damaged as text."""
    text = json.dumps(value)
    roll = rng.random()
    if roll < 0.80:
        return text.encode()
    if roll < 0.84:
        return text.encode("utf-16" if rng.random() < 0.5 else "utf-8-sig")
    if roll < 0.87:
        return text[: rng.randrange(len(text) + 1)].encode() + b"[" * rng.choice((1, 100_000))
    if roll < 0.90:
        return rng.choice(
            (b"", b"null", b"[]", b"{}", b"0", b'"x"', b"\xff\xfe", b"NaN", b"9" * 5000)
        )
    return damaged_bytes(rng, text.encode())


def damaged_bytes(rng: Random, data: bytes) -> bytes:
    """Bytes with one to four random edits."""
    return edited(data, edits(rng, len(data)))


def edits(rng: Random, size: int) -> list[list[Any]]:
    """One to four edits of ``size`` bytes, as JSON."""
    return [_edit(rng, max(size, 1)) for _ in range(rng.choice((1, 1, 1, 2, 4)))]


def _edit(rng: Random, size: int) -> list[Any]:
    # headers are short and decide most: a third of all edits goes there
    place = rng.randrange(min(size, 64) if rng.random() < 0.35 else size)
    action = rng.choice(("flip", "flip", "flip", "cut", "set", "set", "insert", "drop", "repeat"))
    if action == "flip":
        return [action, place, rng.randrange(8)]
    if action in ("set", "insert"):
        patterns = (
            "ff" * 4,
            "00" * 8,
            "7f",
            "80",
            "ffffff7f",
            rng.randbytes(rng.choice((1, 4, 30))).hex(),
        )
        return [action, place, rng.choice(patterns)]
    if action in ("drop", "repeat"):
        return [action, place, rng.choice((1, 4, 100, size // 3 + 1))]
    return [action, place]


def edited(data: bytes, changes: Sequence[Sequence[Any]]) -> bytes:
    """Applies edits in order; places beyond the end wrap around."""
    content = bytearray(data)
    for action, place, *rest in changes:
        at = place % max(len(content), 1)
        if action == "flip" and content:
            content[at] ^= 1 << rest[0]
        elif action == "cut":
            del content[at:]
        elif action == "set":
            new = bytes.fromhex(rest[0])
            content[at : at + len(new)] = new
        elif action == "insert":
            content[at:at] = bytes.fromhex(rest[0])
        elif action == "drop":
            del content[at : at + rest[0]]
        elif action == "repeat":
            content[at:at] = content[at : at + rest[0]]
    return bytes(content)


def edit_file(path: Path, changes: Sequence[Sequence[Any]]) -> bool:
    """Applies edits to a file; returns True if its content has changed."""
    before = path.read_bytes()
    after = edited(before, changes)
    path.write_bytes(after)
    return after != before
