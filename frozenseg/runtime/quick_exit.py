"""Ends a program without the interpreter's teardown."""

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_exit() -> Iterator[None]:
    """Ends the process quickly if this block, which is a whole program, exits with a status.

    With torch loaded, Python needs up to a second to free all modules and libraries. Handlers
    registered with ``atexit`` inside the block run first, and streams are flushed. After any other
    exception, Python ends as usual.
    """
    status = 0

    def end() -> None:
        logging.shutdown()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:  # a closed pipe, which Python reports in its own way
            return
        os._exit(status)

    atexit.register(end)  # handlers run in reverse order: this one after those of the program
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended.code, str):  # Python prints it
            atexit.unregister(end)
        else:
            status = int(ended.code or 0)
        raise
    except BaseException:
        atexit.unregister(end)
        raise
