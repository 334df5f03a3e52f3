"""Ending a run in good order when a scheduler or a person asks for it."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, Self

logger = logging.getLogger(__name__)

REQUEUE_EXIT_CODE = 75
"""Exit status of a run that was asked to stop and has saved itself (``EX_TEMPFAIL``).

The same command with ``--resume`` goes on; a batch script requeues its job on it.
"""

INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT, as a shell has it
INTERRUPTED = "interrupted twice: ended without saving, --resume goes on from the last checkpoint"

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals to stop go to ``handler`` in the block, and where they went before after it."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class StopRequest:
    """Remembers SIGTERM, SIGUSR1 or Ctrl-C in its block; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._handling = handled_by(self._remember)

    def __enter__(self) -> Self:
        self._handling.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.__exit__(None, None, None)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True
        logger.warning(
            "%s: saving after this iteration, then stopping", signal.Signals(number).name
        )
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def exit_on_signal() -> Iterator[None]:
    """Outside a ``StopRequest``, signals to stop end the process with ``REQUEUE_EXIT_CODE``.

    While a run starts up or evaluates, all that can be saved is on the disk.
    """
    with handled_by(_leave):
        yield


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    logger.warning("%s: stopping, --resume goes on", signal.Signals(number).name)
    raise SystemExit(REQUEUE_EXIT_CODE)


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Signals to stop wait until the block's end; in processes that start in it, until they ask.

    So that there is no moment at which one has started but is not ready for them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
