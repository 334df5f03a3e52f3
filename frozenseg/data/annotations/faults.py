"""Errors in annotation files: raised at once, or collected entry by entry."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frozenseg.errors import UserError


class BadEntry(UserError):
    """Part of a sentence: which value of an entry is wrong, and what was expected.

    ``Faults.entry`` puts the file and the entry in front.
    """


class Faults:
    """The errors of one file.

    Args:
        path: the file, for messages.
        collect: note faults in ``found`` and continue without the entry, as ``datasets check`` and
            ``--skip-bad`` do; False raises the first one.
    """

    def __init__(self, path: Path, *, collect: bool = False) -> None:
        self.path, self.collect = path, collect
        self.found: list[str] = []

    def report(self, sentence: str) -> None:
        """Notes a fault.

        Raises:
            UserError: faults are not collected.
        """
        whole = f"{self.path}: {sentence}"
        if not self.collect:
            raise UserError(f"{whole}; fix the file, or leave such entries out with --skip-bad")
        self.found.append(whole)

    @contextmanager
    def entry(self, place: str) -> Iterator[None]:
        """Reports a ``BadEntry`` of the block, with the place of the entry in front."""
        try:
            yield
        except BadEntry as error:
            self.report(f"{place} {error}")
