"""The parent's side of a child process: starts it, asks it, and ends it when it takes too long."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.fuzz.case import Case, Outcome
from tools.fuzz.worker import CURRENT

HANG_SECONDS = 20.0  # of computing
WAITING_SECONDS = 90.0  # of anything; other work on the machine must not look like a hang
START_SECONDS = 180.0
ROOT = Path(__file__).resolve().parents[2]


class Child:
    """One worker process that is started again after a crash or a hang."""

    def __init__(self) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="frozenseg-fuzz-"))
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        shutil.rmtree(self.work, ignore_errors=True)

    def run_case(self, case: Case) -> tuple[Case, Outcome]:
        return self._ask({"case": case.to_json()})

    def run_drawn(self, entry: str, seed: int, index: int) -> tuple[Case, Outcome]:
        return self._ask({"entry": entry, "seed": seed, "index": index})

    def _ask(self, request: dict) -> tuple[Case, Outcome]:
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None, "it was just started"
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        self._line(START_SECONDS, START_SECONDS)  # the case is drawn and written
        start = time.monotonic()
        answer = self._line(HANG_SECONDS, WAITING_SECONDS)
        case = Case.from_json((self.work / CURRENT).read_text())
        if answer:
            return case, Outcome.from_json(answer)
        seconds = round(time.monotonic() - start, 1)
        return case, self._end_of_process(seconds)

    def _end_of_process(self, seconds: float) -> Outcome:
        """A crash if it has ended by itself, else a hang."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._end()
            return Outcome("hang", error="Timeout", seconds=seconds)
        self._end()
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Outcome("crash", error=name, seconds=seconds)

    def _start(self) -> None:
        reading, writing = os.pipe()
        # the child expects the pipe as descriptor 3
        command = f'exec 3>&{writing}; exec "$0" -m tools.fuzz.worker "$1" 2>"$1/stderr"'
        self._process = subprocess.Popen(
            ["bash", "-c", command, sys.executable, str(self.work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[writing],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        os.close(writing)
        self._reading, self._buffer = reading, b""
        if self._line(START_SECONDS, START_SECONDS) != "ready":
            trace = (self.work / "stderr").read_text()
            raise RuntimeError(f"the fuzzing process cannot start:\n{trace}")

    def _line(self, cpu_seconds: float, wall_seconds: float) -> str:
        """The next line of the child; empty if it ends or takes too long."""
        start, computed = time.monotonic(), self._cpu_seconds()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], 0.5)
            if ready:
                data = os.read(self._reading, 1 << 16)
                if not data:
                    return ""
                self._buffer += data
            elif time.monotonic() - start > wall_seconds:
                return ""
            elif self._cpu_seconds() - computed > cpu_seconds:
                return ""
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def _cpu_seconds(self) -> float:
        assert self._process is not None
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _end(self) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # with whatever it has started
        except ProcessLookupError:
            pass
        self._process.wait()
        os.close(self._reading)
        self._process = None
