"""Stopping a run cleanly when a scheduler or a user asks for it."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, Self

logger = logging.getLogger(__name__)

REQUEUE_EXIT_CODE = 75
"""Exit status of a run that was asked to stop and has saved a checkpoint (``EX_TEMPFAIL``).

The same command with ``--resume`` continues it; a batch script requeues its job on this status.
"""

INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT, the convention of shells
INTERRUPTED = "interrupted twice: stopped without saving; --resume continues the last checkpoint"

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Installs ``handler`` for all stop signals inside the block."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class StopRequest:
    """Records a stop signal received inside its block; a second Ctrl-C interrupts immediately."""

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
        logger.warning("%s: stopping after this iteration", signal.Signals(number).name)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def exit_on_signal() -> Iterator[None]:
    """Ends the process with ``REQUEUE_EXIT_CODE`` on a stop signal inside the block.

    For phases without unsaved work: the start of a run, and evaluations. A ``StopRequest`` inside
    the block takes precedence.
    """
    with handled_by(_leave):
        yield


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    logger.warning("%s: stopping; --resume continues the run", signal.Signals(number).name)
    raise SystemExit(REQUEUE_EXIT_CODE)
