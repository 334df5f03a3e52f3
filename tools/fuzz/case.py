"""A case, its outcome and the protocol of an entry point; all of them can be written as JSON."""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

FAULTS = ("uncaught", "wrong", "escape", "crash", "hang", "memory")


@dataclass(frozen=True)
class Case:
    """One input of an entry point.

    Args:
        entry: name of the entry point.
        arguments: any JSON value; the entry point knows what it means.
        files: content by path below the case's folder, written before the run.
    """

    entry: str
    arguments: Any = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    def write_files(self, folder: Path) -> None:
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def to_json(self) -> str:
        files = {
            name: base64.b85encode(zlib.compress(data)).decode()
            for name, data in self.files.items()
        }
        return json.dumps({"entry": self.entry, "arguments": self.arguments, "files": files})

    @classmethod
    def from_json(cls, text: str) -> "Case":
        content = json.loads(text)
        files = {
            name: zlib.decompress(base64.b85decode(data)) for name, data in content["files"].items()
        }
        return cls(content["entry"], content["arguments"], files)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @property
    def size(self) -> int:
        return len(json.dumps(self.arguments)) + sum(map(len, self.files.values()))


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case.

    Args:
        kind: ``result``, ``refused`` (a ``UserError``), or one of ``FAULTS``.
        error: type of the exception, or what was wrong.
        place: ``file:function`` of the innermost frame in the project.
        message: its first characters.
        seconds: wall-clock time.
        peak_mib: largest resident memory of the process, MiB.
    """

    kind: str
    error: str = ""
    place: str = ""
    message: str = ""
    seconds: float = 0.0
    peak_mib: int = 0

    @property
    def is_fault(self) -> bool:
        return self.kind in FAULTS

    @property
    def signature(self) -> tuple[str, str, str]:
        """Faults that share it have one cause."""
        return self.kind, self.error, self.place

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        return cls(**json.loads(text))


class WrongResult(AssertionError):
    """An input was accepted although its result is wrong; ``kind`` is one of ``FAULTS``."""

    def __init__(self, what: str, *, kind: str = "wrong") -> None:
        super().__init__(what)
        self.kind = kind


class Entry(NamedTuple):
    """An entry point of the project.

    ``make`` draws a case's arguments and files; ``run`` is called with the arguments in an empty
    working folder that holds the files. ``run`` returns or raises a ``UserError`` if the project
    behaves; any other exception is a fault. ``share`` is its part of all cases.
    """

    name: str
    make: Callable[[Random], Case]
    run: Callable[[Any, Path], None]
    share: float = 1.0
