"""The parent's side of the child processes: asks them, and ends one that takes too long."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tools.fuzz.case import Case, Outcome
from tools.fuzz.worker import CURRENT

HANG_SECONDS = 20.0  # of computing
WAITING_SECONDS = 90.0  # of anything; other work on the machine must not look like a hang
START_SECONDS = 180.0
ROOT = Path(__file__).resolve().parents[2]


class Child:
    """Processes that run one case at a time; a crash or a hang ends only the one that runs it."""

    def __init__(self, *, hang_seconds: float = HANG_SECONDS) -> None:
        self.hang_seconds = hang_seconds
        self.work = Path(tempfile.mkdtemp(prefix="frozenseg-fuzz-"))
        self._buffer, self._pid = b"", 0
        self._reading, writing = os.pipe()
        # the process expects the pipe as descriptor 3
        command = f'exec 3>&{writing}; exec "$0" -m tools.fuzz.worker "$1" 2>"$1/stderr"'
        self._server = subprocess.Popen(
            ["bash", "-c", command, sys.executable, str(self.work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[writing],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        os.close(writing)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        for pid in (self._server.pid, self._pid):
            with suppress(ProcessLookupError):
                if pid:
                    os.killpg(pid, signal.SIGKILL)  # with whatever it has started
        self._server.wait()
        os.close(self._reading)
        shutil.rmtree(self.work, ignore_errors=True)

    def shares(self) -> dict[str, float]:
        """Each entry point's part of all cases; called once, before the first case."""
        return json.loads(self._started())

    def run_case(self, case: Case) -> tuple[Case, Outcome]:
        return self._ask({"case": case.to_json()})

    def run_drawn(self, entry: str, seed: int, index: int) -> tuple[Case, Outcome]:
        return self._ask({"entry": entry, "seed": seed, "index": index})

    def _ask(self, request: dict) -> tuple[Case, Outcome]:
        assert self._server.stdin is not None, "it is a pipe"
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        while self._started() != "started":
            pass
        start = time.monotonic()
        answer = self._line(self.hang_seconds, WAITING_SECONDS)
        case = Case.from_json((self.work / CURRENT).read_text())
        if answer.startswith("{"):
            return case, Outcome.from_json(answer)
        seconds = round(time.monotonic() - start, 1)
        if answer:
            status = int(answer.removeprefix("ended "))
            name = signal.Signals(-status).name if status < 0 else f"status {status}"
            return case, Outcome("crash", error=name, seconds=seconds)
        os.killpg(self._pid, signal.SIGKILL)
        return case, Outcome("hang", error="Timeout", seconds=seconds)

    def _started(self) -> str:
        """The next line of a process that has no case yet."""
        line = self._line(START_SECONDS, START_SECONDS)
        if not line:
            trace = (self.work / "stderr").read_text()
            raise RuntimeError(f"the process of the harness fails by itself:\n{trace[-3000:]}")
        return line

    def _line(self, cpu_seconds: float, wall_seconds: float) -> str:
        """The next line about a case; empty if there is none in time."""
        start, computed = time.monotonic(), self._cpu_seconds()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], 0.2)
            if ready:
                data = os.read(self._reading, 1 << 16)
                if not data:
                    return ""
                self._buffer += data
            elif (
                time.monotonic() - start > wall_seconds
                or self._cpu_seconds() - computed > cpu_seconds
            ):
                return ""
        line, _, self._buffer = self._buffer.partition(b"\n")
        if line.startswith(b"child "):
            self._pid = int(line.split()[1])
            return self._line(cpu_seconds, wall_seconds)
        return line.decode()

    def _cpu_seconds(self) -> float:
        try:
            fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has not started
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
