"""A program that ends quickly keeps its status, its output and its exit handlers."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys
from frozenseg.runtime.quick_exit import quick_exit

class Freed:
    def __del__(self):
        print("torn down")

with quick_exit():
    kept = Freed()
    atexit.register(print, "handled")
    print("x" * 100_000)
    {last}
"""


def run(last: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM.format(last=last)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("last", "status"), [("sys.exit(75)", 75), ("sys.exit()", 0), ("pass", 0)])
def test_a_status_ends_the_process_after_its_handlers(last: str, status: int) -> None:
    done = run(last)
    assert done.returncode == status and done.stderr == ""
    assert done.stdout == "x" * 100_000 + "\nhandled\n"


def test_other_ends_are_pythons_own() -> None:
    done = run("sys.exit('one sentence')")
    assert done.returncode == 1 and done.stderr == "one sentence\n"
    assert "torn down" in done.stdout
    done = run("raise ValueError('a bug')")
    assert done.returncode == 1 and "ValueError: a bug" in done.stderr
    assert "torn down" in done.stdout


def test_a_closed_pipe_is_an_error() -> None:
    pipe = '"$0" -c "$1" | true; echo ${PIPESTATUS[0]}'
    program = PROGRAM.format(last="import time; time.sleep(0.5)")
    command = ["bash", "-c", pipe, sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) != 0
