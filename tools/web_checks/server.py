"""``frozenseg web`` as a process, for the tools that visit it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Server(NamedTuple):
    """A running server."""

    url: str
    process: "subprocess.Popen[str]"


@contextmanager
def running_server(*options: str) -> Iterator[Server]:
    """Starts the command on a free port, waits for its address, and stops it at the end.

    Raises:
        RuntimeError: it ended without one.
    """
    command = [sys.executable, "-m", "frozenseg", "web", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None, "its output is a pipe"
        found = re.search(r"http://\S+", process.stdout.readline())
        if found is None:
            raise RuntimeError(f"{' '.join(command)} ended before it served a page")
        yield Server(found.group(), process)
    finally:
        process.terminate()
        process.wait(timeout=30)
