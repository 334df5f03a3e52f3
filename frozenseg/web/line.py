"""The line in front of the model: one image at a time, in order of arrival."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

_HEARTBEAT = 10.0  # seconds after which a place is repeated, so that no proxy gives up waiting


class BusyError(Exception):
    """The line is full."""


class Line:
    """Counts visitors and orders them; all methods belong to one event loop.

    Args:
        length: most visitors at a time: those who upload, wait, or are served.
        heartbeat: seconds after which an unchanged place is told again.
    """

    def __init__(self, length: int, *, heartbeat: float = _HEARTBEAT) -> None:
        self.length, self.heartbeat = length, heartbeat
        self._admitted = 0
        self._turns: list[asyncio.Event] = []  # the first is being served

    def __len__(self) -> int:
        """Visitors in line, the one who is served included."""
        return len(self._turns)

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Holds one of the ``length`` admissions.

        Raises:
            BusyError: none is left.
        """
        if self._admitted >= self.length:
            raise BusyError
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def places(self) -> AsyncGenerator[int, None]:
        """Joins the line and yields the number of visitors ahead; after 0 it is one's turn.

        The turn lasts until the iterator is closed, which leaves the line wherever one stands.
        """
        moved = asyncio.Event()
        self._turns.append(moved)
        try:
            while place := self._turns.index(moved):
                yield place
                moved.clear()
                try:
                    await asyncio.wait_for(moved.wait(), self.heartbeat)
                except TimeoutError:
                    continue  # tells the same place again
            yield 0
        finally:
            self._turns.remove(moved)
            for other in self._turns:
                other.set()
