"""Feeds random and hostile input to every entry point and lists what went wrong.

    make fuzz
    python -m tools.fuzz --cases 2000 --seed 7 --only rle --only image_files

Cases run in child processes with limits of memory and time. Fine is a result, or one sentence that
says what to change; everything else is a fault. Inputs that failed before, in tests/fuzz/corpus,
run first. The exit status is 1 if there is a fault.
"""

import argparse
import json
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from tools.fuzz.case import Case, Outcome
from tools.fuzz.child import HANG_SECONDS, Child
from tools.fuzz.reduce import reduced
from tools.fuzz.report import Report

CORPUS = Path(__file__).resolve().parents[2] / "tests/fuzz/corpus"
CORPUS_LIMIT = 20_000  # bytes; larger inputs are reported but not kept
Job = Case | tuple[str, int, int]  # one that is known, or the entry point, seed and number of one


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    seed = secrets.randbits(31) if options.seed is None else options.seed
    report = Report(seed)
    start = time.monotonic()
    with Child(hang_seconds=options.hang) as child:
        shares = child.shares()
        names = options.only or [name for name, share in shares.items() if share]
        if unknown := set(names) - shares.keys():
            known = ", ".join(shares)
            sys.exit(f"no entry point {', '.join(sorted(unknown))}: choose from {known}")
        own = {name: shares[name] or 1.0 for name in names}
        jobs = [*corpus(names), *drawn(own, seed, options.cases)]
        run_jobs(jobs, report, options, child)
    report.seconds = time.monotonic() - start
    print(report.markdown() if options.markdown else report.table())
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return 1 if report.faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--cases", type=int, default=10_000, help="how many, besides the corpus")
    parser.add_argument("--seed", type=int, help="default: a new one, which the report names")
    parser.add_argument(
        "--only", action="append", metavar="ENTRY", help="an entry point; may be repeated"
    )
    parser.add_argument("--workers", type=int, default=2, help="child processes (default 2)")
    parser.add_argument(
        "--hang",
        type=float,
        default=HANG_SECONDS,
        help="seconds of computing (default %(default)s)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="add reduced failing inputs to the corpus"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here, too")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--quiet", action="store_true", help="print faults only at the end")
    return parser


def corpus(names: Sequence[str]) -> Iterator[Case]:
    """Inputs that failed once, of these entry points."""
    for path in sorted(CORPUS.glob("*/*.json")):
        if path.parent.name in names:
            yield Case.from_json(path.read_text())


def drawn(shares: Mapping[str, float], seed: int, count: int) -> list[Job]:
    """New cases, divided between the entry points by their shares and well mixed."""
    total = sum(shares.values())
    places = [
        ((index + 0.5) / share, name, index)
        for name, share in shares.items()
        for index in range(round(count * share / total))
    ]
    return [(name, seed, index) for _, name, index in sorted(places)]


def run_jobs(
    jobs: Sequence[Job], report: Report, options: argparse.Namespace, child: Child
) -> None:
    """Runs all jobs on this and further children, and reduces the first failure of each kind."""
    queue: Queue[Job] = Queue()
    for job in jobs:
        queue.put(job)
    errors: list[BaseException] = []

    def work(own: Child | None = None) -> None:
        try:
            with nullcontext(own) if own else Child(hang_seconds=options.hang) as each:
                while not errors:
                    _one(each, queue.get_nowait(), report, options)
        except Empty:
            pass
        except BaseException as error:
            errors.append(error)
            raise

    children = [child, *[None] * (options.workers - 1)]
    threads = [Thread(target=work, args=(each,), daemon=True) for each in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _one(child: Child, job: Job, report: Report, options: argparse.Namespace) -> None:
    case, outcome = child.run_case(job) if isinstance(job, Case) else child.run_drawn(*job)
    is_new = report.add(case, outcome)
    if not is_new:
        return
    if outcome.kind not in ("hang", "memory"):
        case = reduced(case, outcome, lambda smaller: child.run_case(smaller)[1])
    report.name(case, outcome)
    if options.keep:
        _keep(case)
    if not options.quiet:
        print(_line(case, outcome), file=sys.stderr, flush=True)


def _keep(case: Case) -> None:
    content = case.to_json()
    if len(content) <= CORPUS_LIMIT:
        path = CORPUS / case.entry / f"{case.digest}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


def _line(case: Case, outcome: Outcome) -> str:
    about = f"{outcome.error} in {outcome.place}: {outcome.message[:120]}"
    return f"{outcome.kind:9} {case.entry:18} {about}"


if __name__ == "__main__":
    sys.exit(main())
