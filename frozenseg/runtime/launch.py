"""One process per device: started here, by ``torchrun``, or just this one."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import resource_tracker
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
    stop_signals_blocked,
)

logger = logging.getLogger(__name__)

TIMEOUT = timedelta(minutes=30)  # after which a process that waits for a hung one gives up
AGREED = (0, REQUEUE_EXIT_CODE)  # statuses that all processes reach together


class Group(NamedTuple):
    """Which processes make up the run, as the command line says it."""

    num_gpus: int = 1  # processes on each machine
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"  # where the processes meet; auto: a free port of this machine
    timeout: timedelta = TIMEOUT


def launch(main: Callable[..., int], args: tuple[Any, ...], *, group: Group, device: str) -> int:
    """Runs ``main(*args)`` in every process of the group; the exit status.

    Signals that ask this process to stop are passed on to those that it starts. When one of them
    fails, the others are ended.

    Args:
        device: "cuda" or "cpu", as ``MODEL.DEVICE`` says; processes exchange through NCCL or gloo.

    Raises:
        UserError: the group does not fit this machine.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _check_torchrun(group)
        return _join_and_run(main, args, device=device, timeout=group.timeout)
    _check(group, device)
    if group.num_gpus * group.num_machines == 1:
        return main(*args)
    if group.dist_url == "auto":
        group = group._replace(dist_url=f"tcp://127.0.0.1:{free_port()}")
    _start_resource_tracker()
    status = mp.get_context("spawn").Value("i", 1)  # until they agree on another
    pids: list[int] = []
    with _forwarded_signals(pids) as sent:
        with stop_signals_blocked():
            children = start_processes(
                _child,
                (status, mp.get_start_method(), main, args, group, device),
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
            return _status_of_failure(error, sent)
    return status.value


def _status_of_failure(error: ProcessExitedException, sent: Sequence[int]) -> int:
    """The run's status once a process has ended by itself; the others have been ended."""
    if error.exit_code >= 0:
        return error.exit_code
    number = -error.exit_code
    if number not in sent:
        logger.error("%s: the run has ended, --resume goes on", error)
        return 128 + number  # as a shell has it
    if number == signal.SIGKILL:
        logger.error(INTERRUPTED)
        return INTERRUPTED_EXIT_CODE
    return REQUEUE_EXIT_CODE


def share_cores(processes: int) -> None:
    """Computes with this process's share of the cores, unless ``OMP_NUM_THREADS`` says how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def _child(
    local_rank: int,
    status: "Synchronized[int]",
    start_method: str,
    main: Callable[..., int],
    args: tuple[Any, ...],
    group: Group,
    device: str,
) -> None:
    # a spawned process would spawn its data-loading workers too: an import of PyTorch and a copy of
    # the data set for each; they are started as where one process is alone
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
        # Ctrl-C stays blocked: it reaches the parent, too, which passes it on as a request to stop
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGUSR1))
        code = _join_and_run(main, args, device=device, timeout=group.timeout, url=group.dist_url)
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
    if status in AGREED:  # otherwise others may still be exchanging, and taking leave would wait
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
            "several machines need to know where they meet: pass --dist-url tcp://FIRST_MACHINE:PORT"
        )
    if group.dist_url != "auto" and "://" not in group.dist_url:
        raise UserError(f"--dist-url must be as in tcp://FIRST_MACHINE:29500, got {group.dist_url}")
    available = torch.cuda.device_count()
    if device == "cuda" and not available:
        raise UserError(NO_CUDA)
    if device == "cuda" and group.num_gpus > available:
        raise UserError(
            f"--num-gpus is {group.num_gpus} but this machine has {available}: use at most that "
            "many, and --accumulate to keep the batch"
        )


def _check_torchrun(group: Group) -> None:
    """What the command line says beside torchrun, it says for nothing: it must at least be true."""
    gpus, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if group.num_gpus not in (1, gpus) or group.num_machines not in (1, world // gpus):
        raise UserError(
            f"torchrun has started {gpus} processes here, {world} in all: leave out --num-gpus and "
            "--num-machines, and give torchrun --nproc-per-node and --nnodes"
        )


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start_resource_tracker() -> None:
    """Python's helper of spawned processes must outlast a signal to the whole job, as they do.

    It ignores SIGTERM by itself, and SIGUSR1 if that is ignored where it is started.
    """
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    resource_tracker.ensure_running()
    signal.signal(signal.SIGUSR1, before)


@contextmanager
def _forwarded_signals(pids: Sequence[int]) -> Iterator[list[int]]:
    """Passes requests to stop on to ``pids``, and lists what was sent.

    Ctrl-C asks them to stop, a second one kills them.
    """
    sent: list[int] = []
    interrupts: list[int] = []

    def forward(number: int, _frame: object) -> None:
        if number == signal.SIGINT:
            number = signal.SIGKILL if interrupts else signal.SIGTERM
            interrupts.append(number)
        sent.append(number)
        for pid in pids:
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.kill(pid, number)

    with handled_by(forward):
        yield sent
