"""One process per device: this one alone, or several started here or by ``torchrun``."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from frozenseg.errors import UserError
from frozenseg.runtime.devices import NO_CUDA
from frozenseg.runtime.signals import (
    INTERRUPTED,
    INTERRUPTED_EXIT_CODE,
    REQUEUE_EXIT_CODE,
    exit_on_signal,
    handled_by,
)

logger = logging.getLogger(__name__)

TIMEOUT = timedelta(minutes=30)  # after which waiting for a hung process fails
USER_ERROR_EXIT_CODE = 2
AGREED = (0, REQUEUE_EXIT_CODE)  # exit statuses that all processes reach together


class Group(NamedTuple):
    """The processes of a run.

    Args:
        num_gpus: processes on each machine.
        num_machines: number of machines.
        machine_rank: of this machine, from 0.
        dist_url: where the processes connect; auto: a free port of this machine.
        timeout: after which waiting for a hung process fails.
    """

    num_gpus: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"
    timeout: timedelta = TIMEOUT


def launch(main: Callable[..., int], args: tuple[Any, ...], *, group: Group, device: str) -> int:
    """Runs ``main(*args)`` in every process of the group and returns the exit status.

    Stop signals are forwarded to the processes started here. If one of them fails, the others are
    terminated; a user error, which often all of them meet, is raised here once.

    Args:
        main: returns the exit status of its process; must be importable.
        args: picklable arguments of ``main``.
        group: the processes.
        device: "cuda" or "cpu": processes communicate through NCCL or gloo.

    Raises:
        UserError: the group does not fit this machine, or ``main`` raised it.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _check_torchrun(group)
        return _join_and_run(main, args, device=device, timeout=group.timeout)
    _check(group, device)
    if group.num_gpus * group.num_machines == 1:
        return main(*args)
    if group.dist_url == "auto":
        group = group._replace(dist_url=f"tcp://127.0.0.1:{free_port()}")
    spawn = mp.get_context("spawn")
    status = spawn.Value("i", REQUEUE_EXIT_CODE)  # if interrupted at the start
    mistakes: SimpleQueue[str] = spawn.SimpleQueue()
    pids: list[int] = []
    logging.getLogger(start_processes.__module__).setLevel(logging.ERROR)  # whom it terminates
    with _forwarded_signals(pids) as sent:
        children = start_processes(
            _child,
            (status, mistakes, mp.get_start_method(), main, args, group, device),
            nprocs=group.num_gpus,
            join=False,
            start_method="spawn",
        )
        assert children is not None, "start_processes without join returns its processes"
        pids += children.pids()
        try:
            while not children.join():
                pass
        except ProcessExitedException as error:
            if not mistakes.empty():
                raise UserError(mistakes.get()) from error
            return _status_of_failure(error, sent)
    return status.value


def _status_of_failure(error: ProcessExitedException, sent: Sequence[int]) -> int:
    """Returns the run's exit status after a process has failed; the others are terminated."""
    if error.exit_code >= 0:
        return error.exit_code
    number = -error.exit_code
    if number not in sent:
        logger.error("%s: the run has ended; --resume continues it", error)
        return 128 + number  # the convention of shells
    if number == signal.SIGKILL:
        logger.error(INTERRUPTED)
        return INTERRUPTED_EXIT_CODE
    return REQUEUE_EXIT_CODE


def share_cores(processes: int) -> None:
    """Limits this process to its share of the cores, unless ``OMP_NUM_THREADS`` is set."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def _child(
    local_rank: int,
    status: "Synchronized[int]",
    mistakes: "SimpleQueue[str]",
    start_method: str,
    main: Callable[..., int],
    args: tuple[Any, ...],
    group: Group,
    device: str,
) -> None:
    # start data-loading workers as in a single process: spawning each would import PyTorch and copy
    # the data set again
    mp.set_start_method(start_method, force=True)
    rank = group.machine_rank * group.num_gpus + local_rank
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(group.num_gpus),
        "WORLD_SIZE": str(group.num_gpus * group.num_machines),
    }
    if device == "cpu":
        share_cores(group.num_gpus)
    with exit_on_signal():
        # a terminal sends Ctrl-C to the parent, too, which forwards it as a request to stop
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        try:
            code = _join_and_run(
                main, args, device=device, timeout=group.timeout, url=group.dist_url
            )
        except UserError as error:
            mistakes.put(str(error))
            code = USER_ERROR_EXIT_CODE
    if code not in AGREED:
        sys.exit(code)
    status.value = code


def _join_and_run(
    main: Callable[..., int],
    args: tuple[Any, ...],
    *,
    device: str,
    timeout: timedelta,
    url: str = "env://",
) -> int:
    dist.init_process_group(
        "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
        init_method=url,
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timeout,
    )
    status = main(*args)
    if status in AGREED:  # otherwise other processes may still communicate, and this would block
        dist.destroy_process_group()
    return status


def _check(group: Group, device: str) -> None:
    if group.num_gpus < 1 or group.num_machines < 1:
        raise UserError(
            f"--num-gpus and --num-machines must be at least 1, got {group.num_gpus} and "
            f"{group.num_machines}"
        )
    if not 0 <= group.machine_rank < group.num_machines:
        raise UserError(
            f"--machine-rank must be 0 to {group.num_machines - 1} with --num-machines "
            f"{group.num_machines}, got {group.machine_rank}"
        )
    if group.num_machines > 1 and group.dist_url == "auto":
        raise UserError(
            "several machines need an address to connect to: pass --dist-url tcp://FIRST_MACHINE:PORT"
        )
    if group.dist_url != "auto" and "://" not in group.dist_url:
        raise UserError(f"--dist-url must be like tcp://FIRST_MACHINE:29500, got {group.dist_url}")
    available = torch.cuda.device_count()
    if device == "cuda" and not available:
        raise UserError(NO_CUDA)
    if device == "cuda" and group.num_gpus > available:
        raise UserError(
            f"--num-gpus is {group.num_gpus} but this machine has {available}: use at most that "
            "many, and --accumulate to keep the batch"
        )


def _check_torchrun(group: Group) -> None:
    """Refuses options that contradict torchrun, which decides the number of processes."""
    gpus, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if group.num_gpus not in (1, gpus) or group.num_machines not in (1, world // gpus):
        raise UserError(
            f"torchrun has started {gpus} processes here, {world} in all: leave out --num-gpus and "
            "--num-machines, and give torchrun --nproc-per-node and --nnodes"
        )


def free_port() -> int:
    """Returns an unused port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _forwarded_signals(pids: Sequence[int]) -> Iterator[list[int]]:
    """Forwards stop signals to ``pids`` and lists the signals that were sent.

    Ctrl-C is forwarded as SIGTERM, a second one as SIGKILL.
    """
    sent: list[int] = []
    interrupts: list[int] = []

    def forward(number: int, _frame: object) -> None:
        if number == signal.SIGINT:
            number = signal.SIGKILL if interrupts else signal.SIGTERM
            interrupts.append(number)
        sent.append(number)
        for pid in pids:
            with suppress(ProcessLookupError):  # the process may have ended
                os.kill(pid, number)

    with handled_by(forward):
        yield sent
