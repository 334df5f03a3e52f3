"""Shared by all preparations: parallel work, progress, resuming, error messages.

Every file is written atomically, so that an existing file is complete.
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

from frozenseg.data.images import image_size
from frozenseg.data.specs import data_root
from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.paths import listed_files, remove_leftovers
from frozenseg.io.text import markup

Job = TypeVar("Job")
Done = TypeVar("Done")

console = Console(stderr=True)
_shared: Any = None


@dataclass(frozen=True)
class Preparation:
    """The options of a preparation.

    Args:
        root: the folder of all data sets.
        num_processes: 1 works in this process.
        force: make existing files again.
    """

    root: Path
    num_processes: int
    force: bool = False

    def is_done(self, path: Path) -> bool:
        """Returns True if an earlier run made the file, so that it can be skipped."""
        return path.exists() and not self.force

    def remove_leftovers(self, *folders: Path) -> None:
        """Deletes temporary files that a killed preparation left in the folders it writes to."""
        count = remove_leftovers(folders)
        if count:
            console.print(f"removed {count} temporary files of a killed run", highlight=False)

    def run(
        self,
        work: Callable[[Any, Job], Done],
        jobs: Sequence[Job],
        *,
        title: str,
        shared: object = None,
    ) -> list[Done]:
        """Calls ``work(shared, job)`` for all jobs and returns the results in order.

        Args:
            work: can be sent to a process.
            jobs: what remains to be done.
            title: for the progress bar.
            shared: sent to each process once.

        Raises:
            Exception: the first error of a job stops all others.
        """
        if not jobs:
            console.print(f"{title}: nothing to do", highlight=False)
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
    arguments: Sequence[str] | None = None,
) -> int:
    """Reads the command line of a preparation script and runs it.

    Args:
        prepare: called with the options and the chosen splits.
        about: shown by ``--help``.
        splits: all splits; without a choice, the validation split is prepared.
        arguments: None: those of the process.

    Returns:
        The exit status: 2 after a user's mistake, which is printed as one sentence; 130 after
        Ctrl-C.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--root", type=Path, default=data_root(), help="default: %(default)s")
    parser.add_argument("--splits", nargs="+", choices=splits, default=default_splits(splits))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--force", action="store_true", help="make existing files again")
    options = parser.parse_args(arguments)
    preparation = Preparation(options.root, max(options.processes, 1), options.force)
    try:
        prepare(preparation, options.splits)
    except UserError as error:
        console.print(f"[bold red]error:[/] {markup(error)}", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("stopped: run the same command again to resume", highlight=False)
        return 130
    return 0


def default_splits(splits: Sequence[str]) -> list[str]:
    """Returns the validation split, which all evaluations need."""
    return [split for split in splits if split.startswith("val")]


def input_files(folder: Path, pattern: str, *, page: str, known: int | None = None) -> list[Path]:
    """Returns the files of a download, sorted; warns if their number is not the known one.

    Args:
        folder: of the download.
        pattern: of the file names, as for ``Path.glob``.
        page: where to get the download, for the message.
        known: number of files of a complete download; None: unknown.

    Raises:
        UserError: there is none.
    """
    files = listed_files(folder, pattern)
    if not files:
        raise UserError(f"no {pattern} in {folder}: get it from {page}, or give another --root")
    if known is not None and len(files) != known:
        console.print(f"[yellow]{markup(folder)} has {len(files)} of {known} files[/]")
    return files


def check_same_size(*paths: Path) -> None:
    """Compares the stored sizes of images by their headers, before any of them is decoded.

    Raises:
        UserError: an image differs from the first one.
    """
    sizes = [image_size(path, upright=False) for path in paths]
    for path, (height, width) in zip(paths, sizes, strict=True):
        if (height, width) != sizes[0]:
            raise UserError(
                f"{path} is {width} x {height} pixels, but {paths[0]} {sizes[0][1]} x "
                f"{sizes[0][0]}: fetch both again"
            )


def save_labels(labels: np.ndarray, path: Path) -> None:
    """Writes (H, W) labels of 8 or 16 bits, atomically."""
    with atomic_write(path) as part:
        Image.fromarray(labels).save(part)


def copy_file(source: Path, target: Path) -> None:
    """Copies a file atomically."""
    with atomic_write(target) as part:
        shutil.copyfile(source, part)


@dataclass(frozen=True)
class _Work:
    """Runs a job in another process, where the shared data is a global."""

    work: Callable[[Any, Any], Any]

    def __call__(self, job: Any) -> Any:
        return self.work(_shared, job)


def _start_worker(value: Any) -> None:
    """Leaves Ctrl-C to the main process; the worker ends with it, even if it was killed."""
    global _shared
    _shared = value
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent process"
    parent.join()
    os._exit(1)
