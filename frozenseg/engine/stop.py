"""Ending a run in good order when a scheduler or a person asks for it."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import active_children
from multiprocessing.util import Finalize
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
def leaving_on_request() -> Iterator[None]:
    """Outside a ``StopRequest``, signals to stop end the process with ``REQUEUE_EXIT_CODE``.

    While a run starts up or evaluates, all that can be saved is on the disk.
    """
    with handled_by(_leave):
        yield


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    logger.warning("%s: stopping, --resume goes on", signal.Signals(number).name)
    raise SystemExit(REQUEUE_EXIT_CODE)


@contextmanager
def held_back() -> Iterator[None]:
    """Signals to stop wait until the block's end; in processes that start in it, until they ask.

    So that there is no moment at which one has started but is not ready for them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stop_signals(_worker_id: int = 0) -> None:
    """For processes that fetch data: a signal to the whole job must not take them from its end.

    Whoever starts such a process calls ``end_workers_at_exit``.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_workers_at_exit() -> None:
    """Lets this process end whatever its daemonic children do.

    At exit Python asks them by SIGTERM and then waits: for ever, if they ignore it or hang.
    """
    _end_workers_at_exit_of(os.getpid())


@cache
def _end_workers_at_exit_of(_pid: int) -> None:  # a forked process inherits the cache but no exit
    Finalize(None, _kill_workers, exitpriority=0)  # after pools and managers, before SIGTERM


def _kill_workers() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would call each an error
    for child in active_children():
        if child.daemon:
            child.kill()
