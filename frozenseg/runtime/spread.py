"""Independent pieces of work spread over processes of this machine."""

import queue
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
import torch.multiprocessing as mp

from frozenseg.errors import UserError
from frozenseg.runtime.launch import share_cores

POLL_SECONDS = 2.0  # between checks that the processes are alive

Result = TypeVar("Result")


def spread(
    build: Callable[[str], Callable[[int], Result]],
    indices: Sequence[int],
    *,
    device: str = "auto",
    processes: int = 1,
) -> Iterator[Result]:
    """Yields the result of each piece of work.

    Args:
        build: called in each process with the name of its device; returns the function of an index
            that does the work. Both it and the results can be pickled.
        indices: of the pieces of work.
        device: "auto" and "cuda" give each of several processes the next CUDA device; on the CPU
            they share its cores.
        processes: number of processes; the results of several come in any order.

    Raises:
        UserError: the work cannot be done.
        RuntimeError: a process died.
    """
    if processes == 1:
        yield from map(build(device), indices)
        return
    context = mp.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(
            target=_work,
            args=(build, indices[rank::processes], device, rank, processes, results),
            daemon=True,
        )
        for rank in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        yield from _gathered(results, workers, len(indices))
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _work(
    build: Callable[[str], Callable[[int], Any]],
    indices: Sequence[int],
    device: str,
    rank: int,
    processes: int,
    results,
) -> None:
    """Runs one process, which sends a result for each index, or an error."""
    share_cores(processes)
    if device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{rank % torch.cuda.device_count()}"
    try:
        for result in map(build(device), indices):
            results.put(result)
    except UserError as error:
        results.put(error)
    except Exception:  # crosses the process boundary as text
        results.put(RuntimeError(traceback.format_exc()))


def _gathered(results, workers: Sequence[BaseProcess], expected: int) -> Iterator[Any]:
    found = 0
    while found < expected:
        try:
            result = results.get(timeout=POLL_SECONDS)
        except queue.Empty:
            dead = [worker for worker in workers if worker.exitcode]
            if dead:
                raise RuntimeError(
                    f"a process ended with status {dead[0].exitcode}, perhaps for lack of memory: "
                    "run the command again with fewer --processes; finished images are kept"
                ) from None
            continue
        if isinstance(result, Exception):
            raise result
        found += 1
        yield result
