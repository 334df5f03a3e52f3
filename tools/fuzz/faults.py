"""Kills work at random moments, repeats its command and compares what it leaves, byte for byte.

    make faults
    python -m tools.fuzz.faults --kills 20 --seed 3 --only evaluation

Runs are killed with SIGKILL or SIGTERM, some of them again after they were resumed. A fault is any
difference from the outputs of an undisturbed run, another exit status than promised, or a process
that outlives its run. The exit status is 1 if there is a fault.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

DEADLINE = 240.0  # seconds after which a run hangs
AGAIN = 0.35  # share of resumed runs that are killed, too
ORPHANS = 45.0  # seconds that the processes of a killed run have to end


class Run(NamedTuple):
    """One child: its exit status, whether it was killed, how long it took."""

    status: int
    killed: bool
    seconds: float
    orphans: int


def main(arguments: Sequence[str] | None = None) -> int:
    from tools.fuzz.kills import WORKS, import_all

    options = _parser(tuple(WORKS)).parse_args(arguments)
    seed = secrets.randbits(31) if options.seed is None else options.seed
    import_all()
    names = options.only or list(WORKS)
    report = Report(seed)
    with tempfile.TemporaryDirectory(prefix="frozenseg-faults-") as folder:
        _isolate(Path(folder))
        start = time.monotonic()
        for name, count in _shared_out(options.kills, names).items():
            if count:
                _kind(name, count, Random(f"{seed}/{name}"), Path(folder), report)
        report.seconds = time.monotonic() - start
    print(report.markdown() if options.markdown else report.text())
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return 1 if report.faults else 0


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz.faults", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--kills", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--seed", type=int, help="default: a new one, which the report names")
    parser.add_argument(
        "--only", action="append", choices=names, help="a kind of work; may be repeated"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here, too")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser


def _shared_out(kills: int, names: Sequence[str]) -> dict[str, int]:
    """Kills by kind of work, in proportion to their shares."""
    from tools.fuzz.kills import WORKS

    total = sum(WORKS[name].share for name in names)
    wanted = {name: kills * WORKS[name].share / total for name in names}
    counts = {name: int(number) for name, number in wanted.items()}
    by_rest = sorted(names, key=lambda name: counts[name] - wanted[name])
    for name in by_rest[: kills - sum(counts.values())]:
        counts[name] += 1
    return counts


def _isolate(folder: Path) -> None:
    """No network, and a cache folder that all runs share, as a user's do."""
    os.environ.pop("DETECTRON2_DATASETS", None)
    os.environ |= {
        "FROZENSEG_CACHE": str(folder / "cache"),
        "FROZENSEG_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]),
    }


def _kind(name: str, kills: int, rng: Random, folder: Path, report: "Report") -> None:
    """An undisturbed run, then chains of killed and resumed ones."""
    from tools.fuzz.kills import WORKS, outputs

    work = WORKS[name]
    place = _laid_out(folder, work)
    undisturbed = forked(lambda: work.run(place), place / "console.txt")
    if undisturbed.status != 0:
        report.fault(name, f"an undisturbed run ends with {undisturbed.status}", _last_lines(place))
        return
    expected, made = outputs(place / work.outputs), 0
    while made < kills:
        place = _laid_out(folder, work)
        while True:
            kill = made < kills and (made == 0 or rng.random() < AGAIN or not _has_run(place))
            number = rng.choice((signal.SIGKILL, signal.SIGTERM))
            after = rng.random() * undisturbed.seconds
            run = forked(
                partial(work.run, place),
                place / "console.txt",
                kill=(after, number, rng.choice(("main", "all"))) if kill else None,
            )
            made += run.killed
            report.count(name, number.name, run.killed)
            if problem := _problem(run, number, work.stopped):
                report.fault(
                    name, f"{problem} ({number.name} after {after:.2f} s)", _last_lines(place)
                )
                break
            if not run.killed and run.status == 0:
                break
        if difference := _difference(expected, outputs(place / work.outputs)):
            report.fault(name, difference, _last_lines(place))


def _laid_out(folder: Path, work) -> Path:
    """An empty folder of one name, which configurations hold, with what the work reads."""
    place = folder / "work"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    done = forked(lambda: work.prepare(place) or 0, place / "console.txt")
    assert done.status == 0, _last_lines(place)
    (place / "console.txt").unlink()
    return place


def _has_run(place: Path) -> bool:
    return (place / "console.txt").exists()


def forked(
    function: Callable[[], int],
    console: Path,
    *,
    kill: tuple[float, signal.Signals, str] | None = None,
) -> Run:
    """Runs a function in a child with a process group of its own, and kills it if it is told to.

    Args:
        console: where everything goes that it prints.
        kill: after how many seconds, the signal, and whom: ``main`` or ``all`` processes.
    """
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(function, console)
    killed, status = False, None
    while status is None:
        elapsed = time.monotonic() - start
        if kill is not None and not killed and elapsed >= kill[0]:
            killed = _kill(pid, kill[1], kill[2])
        if elapsed > DEADLINE:
            os.killpg(pid, signal.SIGKILL)
        done, raw = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(raw) if done else None
        time.sleep(0.002)
    seconds = time.monotonic() - start
    # it may have ended between the decision and the signal
    killed = killed and status != 0
    return Run(status, killed, seconds, _end_orphans(pid))


def _child(function: Callable[[], int], console: Path) -> None:
    os.setsid()
    status = 1
    try:
        handle = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        status = function()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _kill(pid: int, number: signal.Signals, whom: str) -> bool:
    try:
        os.killpg(pid, number) if whom == "all" else os.kill(pid, number)
    except ProcessLookupError:  # not yet the leader of a group
        os.kill(pid, number)
    return True


def _end_orphans(group: int) -> int:
    """Waits for the other processes of a group; those that do not end are killed and counted."""
    start = time.monotonic()
    while left := _members(group):
        if time.monotonic() - start > ORPHANS:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return len(left)
        time.sleep(0.02)
    return 0


def _members(group: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def _problem(run: Run, number: signal.Signals, stopped: Sequence[int]) -> str:
    if run.orphans:
        return f"{run.orphans} processes outlive the run"
    if not run.killed:
        return "" if run.status == 0 else f"a run that was not killed ends with {run.status}"
    allowed = (-9, 137, 128 + 15, -15) if number == signal.SIGKILL else stopped
    # before Python handles signals, SIGTERM ends a process at once
    return "" if run.status in (*allowed, -number) else f"a killed run ends with {run.status}"


def _difference(expected: dict, found: dict) -> str:
    if missing := expected.keys() - found.keys():
        return f"{min(missing)} is missing"
    if more := found.keys() - expected.keys():
        return f"{min(more)} is left"
    changed = [name for name, content in expected.items() if found[name] != content]
    return f"{changed[0]} differs" if changed else ""


def _last_lines(place: Path) -> str:
    path = place / "console.txt"
    return "\n".join(path.read_text(errors="replace").splitlines()[-6:]) if path.exists() else ""


class Report:
    """Kills and faults by kind of work."""

    def __init__(self, seed: int) -> None:
        self.seed, self.seconds = seed, 0.0
        self._kills: dict[str, Counter[str]] = {}
        self._faults: list[tuple[str, str, str]] = []

    def count(self, name: str, number: str, killed: bool) -> None:
        self._kills.setdefault(name, Counter())[number if killed else "finished"] += 1

    def fault(self, name: str, what: str, lines: str) -> None:
        print(f"{name}: {what}\n{lines}", file=sys.stderr, flush=True)
        self._faults.append((name, what, lines))

    @property
    def faults(self) -> int:
        return len(self._faults)

    @property
    def kills(self) -> int:
        return sum(counts["SIGKILL"] + counts["SIGTERM"] for counts in self._kills.values())

    def _rows(self) -> list[list[str]]:
        header = ["work", "SIGKILL", "SIGTERM", "finished runs", "faults"]
        faults = Counter(name for name, _, _ in self._faults)
        rows = [
            [
                name,
                *(str(counts[key]) for key in ("SIGKILL", "SIGTERM", "finished")),
                str(faults[name]),
            ]
            for name, counts in self._kills.items()
        ]
        return [header, *rows]

    def text(self) -> str:
        lines = [
            "  ".join(f"{cell:<24}" if not n else f"{cell:>13}" for n, cell in enumerate(row))
            for row in self._rows()
        ]
        faults = [f"{name}: {what}" for name, what, _ in self._faults]
        return "\n".join([*lines, *faults, self._last_line()])

    def markdown(self) -> str:
        header, *rows = self._rows()
        lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
        return "\n".join([*lines, "", f"{self._last_line()}."])

    def _last_line(self) -> str:
        return f"seed {self.seed}, {self.kills} kills, {self.seconds:.0f} s, {self.faults} faults"

    def as_json(self) -> dict:
        counts = {name: dict(each) for name, each in self._kills.items()}
        faults = [
            {"work": name, "what": what, "console": lines} for name, what, lines in self._faults
        ]
        return {
            "seed": self.seed,
            "kills": self.kills,
            "seconds": self.seconds,
            "counts": counts,
            "faults": faults,
        }


if __name__ == "__main__":
    sys.exit(main())
