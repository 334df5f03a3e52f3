"""Data-loading worker processes: their signals, time limit and end."""

import os
import signal
from collections.abc import Iterator
from functools import cache
from multiprocessing import active_children
from multiprocessing.util import Finalize
from typing import Any

from torch.utils.data import DataLoader

from frozenseg.runtime.signals import SIGNALS, stop_signals_blocked

WORKER_TIMEOUT = 600  # seconds without a batch after which a worker counts as hung


def start_workers(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches; its workers neither follow a signal to the whole job nor outlast us.

    One that hangs is an error after ``WORKER_TIMEOUT``, one that dies at once.
    """
    if loader.num_workers:
        loader.timeout, loader.worker_init_fn = WORKER_TIMEOUT, ignore_stop_signals
        end_workers_at_exit()
    with stop_signals_blocked():
        return iter(loader)


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
