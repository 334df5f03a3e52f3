"""The child processes: they run cases one after another and report each on a pipe.

The first one imports the project, which takes seconds, and forks those that run cases, so that a
crash costs little. Their parent watches time; the memory that a case may add is limited here, so
that too large an allocation fails as it does on a small machine.
"""

import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from random import Random
from typing import TextIO

from tools.fuzz.case import Case, Entry, Outcome, WrongResult

LIMIT_BYTES = 4 << 30
CURRENT = "current.json"
CASES_PER_CHILD = 300  # so that what one case leaves in memory does not add up
REPOSITORY = str(Path(__file__).resolve().parents[2])


def main() -> None:
    """Reads requests on standard input, a JSON line each, and answers on file descriptor 3.

    Answers are lines: first each entry point's part of all cases, as JSON; then ``child PID`` and
    ``ended STATUS`` of the process that runs cases, ``started`` and an outcome for each request.
    """
    work = Path(sys.argv[1])
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(3, "w", buffering=1)
    _isolate(work)
    from tools.fuzz.entries import ENTRIES  # imports the project, which takes seconds

    limit = _status_kib("VmSize") * 1024 + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write(json.dumps({name: entry.share for name, entry in ENTRIES.items()}) + "\n")
    while True:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            _serve(requests, answers, ENTRIES, work)
            os._exit(0)
        answers.write(f"child {pid}\n")
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        answers.write(f"ended {status}\n")


def _serve(requests: TextIO, answers: TextIO, entries: dict[str, Entry], work: Path) -> None:
    for _ in range(CASES_PER_CHILD):
        line = requests.readline()
        if not line:
            os.kill(os.getppid(), signal.SIGKILL)  # the parent has closed the pipe: all is done
            os._exit(0)
        case = _case_of(json.loads(line), entries)
        (work / CURRENT).write_text(case.to_json())
        answers.write("started\n")
        answers.write(_outcome(case, entries[case.entry].run, work / "case").to_json() + "\n")


def _isolate(work: Path) -> None:
    """Own cache folder, no network, no data sets of the user, nothing on the terminal."""
    for name in ("DETECTRON2_DATASETS", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)
    os.environ |= {
        "FROZENSEG_CACHE": str(work / "cache"),
        "FROZENSEG_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(work / "home"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)  # a command that asks gets no answer


def _case_of(request: dict, entries: dict) -> Case:
    if "case" in request:
        return Case.from_json(request["case"])
    return drawn(entries[request["entry"]], request["seed"], request["index"])


def drawn(entry, seed: int, index: int) -> Case:
    """The case of an entry point with this number, which depends on nothing else."""
    return entry.make(Random(f"{seed}/{entry.name}/{index}"))


def _outcome(case: Case, run, folder: Path) -> Outcome:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    _reset_peak()
    start = time.monotonic()
    try:
        case.write_files(folder)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            run(case.arguments, folder)
        kind, error = "result", None
    except BaseException as caught:  # whatever escapes the project is what is looked for
        kind, error = _kind(caught), caught
    seconds, peak = time.monotonic() - start, _status_kib("VmHWM") // 1024
    if peak > LIMIT_BYTES >> 20 and kind in ("result", "refused"):
        kind = "memory"
    known = {} if error is None else _about(error)
    return Outcome(kind, seconds=round(seconds, 3), peak_mib=peak, **known)


def _kind(error: BaseException) -> str:
    from frozenseg.errors import UserError

    if isinstance(error, WrongResult):
        return error.kind
    return "refused" if isinstance(error, UserError) else "uncaught"


def _about(error: BaseException) -> dict[str, str]:
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if REPOSITORY in each.filename
    ]
    own = [
        each
        for each in frames
        if "/tools/fuzz/" not in each.filename and "/.venv/" not in each.filename
    ]
    last = (own or frames)[-1:]
    place = "".join(f"{each.filename.removeprefix(REPOSITORY + '/')}:{each.name}" for each in last)
    # ASCII, whatever came: a lone surrogate cannot be written
    message = str(error).encode("ascii", "backslashreplace").decode()
    return {"error": type(error).__name__, "place": place, "message": message[:300]}


def _reset_peak() -> None:
    with suppress(OSError):  # then the peak is that of all cases so far
        Path("/proc/self/clear_refs").write_text("5")


def _status_kib(name: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
