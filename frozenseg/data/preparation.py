"""What the scripts under ``datasets/`` share: many files at once, progress, and going on later.

Every file is written whole or not at all, so that a file that is there is done.
"""

import argparse
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from frozenseg.data.specs import data_root
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write

Job = TypeVar("Job")
Done = TypeVar("Done")

console = Console(stderr=True)
_shared: Any = None


@dataclass(frozen=True)
class Preparation:
    """How to go about it.

    Args:
        root: the folder of all data sets.
        num_processes: one does the work itself.
        force: make again what is there.
    """

    root: Path
    num_processes: int
    force: bool = False

    def is_done(self, path: Path) -> bool:
        """Whether an earlier run made it, so that it can be left."""
        return path.exists() and not self.force

    def run(
        self,
        work: Callable[[Any, Job], Done],
        jobs: Sequence[Job],
        *,
        title: str,
        shared: object = None,
    ) -> list[Done]:
        """``work(shared, job)`` for all jobs, in order; the first error stops everything."""
        if not jobs:
            console.print(f"{title}: nothing is left to do", highlight=False)
            return []
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task(title, total=len(jobs))
            done = []
            for result in self._results(work, jobs, shared):
                done.append(result)
                progress.advance(bar)
        return done

    def _results(
        self, work: Callable[[Any, Job], Done], jobs: Sequence[Job], shared: object
    ) -> Iterator[Done]:
        if self.num_processes == 1:
            for job in jobs:
                yield work(shared, job)
            return
        with ProcessPoolExecutor(
            self.num_processes, initializer=_start_worker, initargs=(shared,)
        ) as pool:
            try:
                yield from pool.map(_Work(work), jobs, chunksize=8)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def run_script(
    prepare: Callable[[Preparation, Sequence[str]], None],
    *,
    about: str | None,
    splits: Sequence[str],
    default: Sequence[str],
    arguments: Sequence[str] | None = None,
) -> int:
    """Reads the command line that all preparation scripts have, and prepares.

    Args:
        prepare: called with how to work and the splits that were chosen.
        about: shown by ``--help``.
        splits: all there are.
        default: those that are prepared where none is named.

    Returns:
        The exit status: 2 after a mistake of the user's, which is said in one sentence; 130 after
        Ctrl-C.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--root", type=Path, default=data_root(), help="default: %(default)s")
    parser.add_argument("--splits", nargs="+", choices=splits, default=list(default))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--force", action="store_true", help="make again what is there")
    options = parser.parse_args(arguments)
    preparation = Preparation(options.root, max(options.processes, 1), options.force)
    try:
        prepare(preparation, options.splits)
    except UserError as error:
        console.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("stopped: the same command goes on from here", highlight=False)
        return 130
    return 0


def input_files(folder: Path, pattern: str, *, page: str, known: int | None = None) -> list[Path]:
    """The files of a download, sorted; another number of them than is known is said aloud.

    Raises:
        UserError: there is none.
    """
    files = sorted(folder.glob(pattern))
    if not files:
        raise UserError(f"no {pattern} in {folder}: get it from {page}, or give another --root")
    if known is not None and len(files) != known:
        console.print(f"[yellow]{folder} has {len(files)} of {known} files[/]")
    return files


def save_labels(labels: np.ndarray, path: Path) -> None:
    """Writes (H, W) labels of 8 or 16 bits."""
    with atomic_write(path) as part:
        Image.fromarray(labels).save(part)


def copy_file(source: Path, target: Path) -> None:
    with atomic_write(target) as part:
        shutil.copyfile(source, part)


@dataclass(frozen=True)
class _Work:
    """A job's work in another process, where the shared data is a global."""

    work: Callable[[Any, Any], Any]

    def __call__(self, job: Any) -> Any:
        return self.work(_shared, job)


def _start_worker(value: Any) -> None:
    """Ctrl-C is for the main process; a worker ends when that does, even if it was killed."""
    global _shared
    _shared = value
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker was started by someone"
    parent.join()
    os._exit(1)
