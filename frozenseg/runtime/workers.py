"""Data-loading worker processes: protection from stop signals, time limit, termination at exit."""

import os
import signal
from collections.abc import Iterator
from functools import cache
from multiprocessing import active_children
from multiprocessing.util import Finalize
from typing import Any

from torch.utils.data import DataLoader

from frozenseg.runtime.signals import SIGNALS

WORKER_TIMEOUT = 600  # seconds without a batch after which a worker counts as hung


def start_workers(loader: DataLoader) -> Iterator[Any]:
    """Starts a loader's workers and returns its batches.

    Stop signals are blocked in the workers: a signal to all processes of a job must not end them
    before their parent has saved.

    Raises:
        RuntimeError: while iterating, if a worker dies or sends nothing for ``WORKER_TIMEOUT``.
    """
    if not loader.num_workers:
        return iter(loader)
    loader.timeout = WORKER_TIMEOUT
    _kill_workers_at_exit(os.getpid())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # child processes inherit the mask
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def _kill_workers_at_exit(_pid: int) -> None:
    """Registers the termination of workers once per process.

    Python's own exit sends SIGTERM, which the workers block, and then waits for them forever.
    """
    Finalize(None, _kill_workers, exitpriority=0)  # after pools and managers, before SIGTERM


def _kill_workers() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would report each as an error
    for child in active_children():
        if child.daemon:
            child.kill()
