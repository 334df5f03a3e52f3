import multiprocessing
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenseg.errors import UserError
from frozenseg.training.loader import training_batches
from frozenseg.training.step import Batch
from tests.fixtures.training import TinySamples, augment, tiny_batches


def first(batches: int, **options: int) -> list[Batch]:
    return list(islice(tiny_batches(**options), batches))


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    return len(ours) == len(theirs) and all(
        a.names == b.names
        and all(map(torch.equal, a.images, b.images))
        and all(torch.equal(s.masks, t.masks) for s, t in zip(a.targets, b.targets, strict=True))
        for a, b in zip(ours, theirs, strict=True)
    )


def test_the_number_of_workers_changes_nothing() -> None:
    assert same(first(5), first(5, num_workers=2))


def test_a_stream_begun_later_continues_the_same_batches() -> None:
    assert same(first(6)[4:], first(2, start=8))


def test_a_sample_looks_different_at_each_visit() -> None:
    batches = first(14, batch_size=1)
    seen: dict[str, list] = {}
    for batch in batches:
        seen.setdefault(batch.names[0], []).append(batch.images[0])
    assert len(seen) == 7
    assert any(not torch.equal(*images) for images in seen.values())


def test_processes_share_the_stream() -> None:
    whole = first(4, batch_size=2)
    parts = [first(4, batch_size=1, rank=rank, world_size=2) for rank in range(2)]
    names = [[part[i].names[0] for part in parts] for i in range(4)]
    assert names == [batch.names for batch in whole]


def test_fetching_leaves_the_trainings_random_numbers_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first(2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


class SomeBad(TinySamples):
    def __getitem__(self, index: int):
        if index in (1, 4):
            raise UserError(f"tiny/{index}.png is damaged")
        return super().__getitem__(index)


def test_bad_samples_that_are_left_out_still_count_as_visits() -> None:
    options = {"augment": augment, "batch_size": 1, "seed": 3, "skip_bad": True}
    whole = list(islice(training_batches(SomeBad(), **options), 12))
    assert sum(batch.visits for batch in whole) > len(whole)
    seen = sum(batch.visits for batch in whole[:5])
    rest = list(islice(training_batches(SomeBad(), **options, start=seen), 7))
    assert [batch.names for batch in rest] == [batch.names for batch in whole[5:]]


class Deadly(TinySamples):
    def __getitem__(self, index: int):
        os._exit(1)


def test_a_dead_worker_is_an_error_and_not_a_wait() -> None:
    batches = training_batches(Deadly(), augment=augment, batch_size=1, seed=0, num_workers=1)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        next(batches)


def test_a_signal_to_the_whole_job_leaves_the_workers_alone() -> None:
    batches = tiny_batches(num_workers=2)
    seen = [next(batches)]
    for worker in multiprocessing.active_children():
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            os.kill(worker.pid, number)
    assert same([*seen, *islice(batches, 7)], first(8))


def lose_a_worker() -> None:
    """Ends in an error whose traceback keeps the other worker's stream alive."""
    batches = tiny_batches(num_workers=2)
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    for _ in batches:
        pass


def test_a_process_of_several_that_loses_a_worker_ends() -> None:
    process = multiprocessing.get_context("fork").Process(target=lose_a_worker)
    process.start()
    process.join(60)
    try:
        assert process.exitcode == 1
    finally:
        process.kill()


@pytest.mark.slow
def test_a_run_that_loses_a_worker_ends() -> None:
    command = "from tests.training.test_loader import lose_a_worker as lose; lose()"
    ended = subprocess.run(
        [sys.executable, "-c", command],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 1
    assert "DataLoader worker" in ended.stderr.splitlines()[-1]  # and no complaint of its ending
