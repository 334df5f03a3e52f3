"""Work in a thread of its own, in order, beside the work of the caller."""

from collections.abc import Callable
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Self


class Background:
    """Makes calls one after the other in one thread, while its block continues.

    After a call that fails no further one is made. Its exception is raised by the next ``submit``
    or at the end of the block, which waits for outstanding calls, also if the block fails itself.

    Args:
        waiting: calls that may wait for their turn; ``submit`` blocks until there is room.
    """

    def __init__(self, *, waiting: int = 1) -> None:
        self._calls: Queue[Callable[[], None] | None] = Queue(waiting)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="background", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls.put(None)
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def submit(self, call: Callable[[], None]) -> None:
        """Appends a call.

        Raises:
            BaseException: that of an earlier call.
        """
        self._calls.put(call)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._error is None:
                try:
                    call()
                except BaseException as error:
                    self._error = error
