"""Several processes on the CPU. Worker functions stand at the top: each process imports them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from frozenseg.errors import UserError
from frozenseg.evaluation import blocks
from frozenseg.evaluation.predictions import LabelMaps
from frozenseg.io import array_files
from frozenseg.runtime.distributed import (
    any_process,
    average,
    gather,
    num_processes,
    process_rank,
    share_text,
)
from frozenseg.runtime.launch import Group, free_port, launch
from frozenseg.runtime.signals import INTERRUPTED_EXIT_CODE, REQUEUE_EXIT_CODE, StopRequest
from frozenseg.training.checkpoints import CheckpointFolder
from frozenseg.training.metric_writers import JsonLines, read_json_lines
from frozenseg.training.schedule import multi_step
from frozenseg.training.step import TrainStep
from frozenseg.training.trainer import Trainer
from frozenseg.training.training_state import restore_state
from tests.evaluation.test_loop import Grey
from tests.evaluation.test_loop import run as evaluate_grey
from tests.fixtures.processes import (
    die_in_one,
    err_in_both,
    exchange,
    hang_in_one,
    refuse,
    refuse_in_one,
    wait,
)
from tests.fixtures.training import CPU, pin_points, tiny_batches, tiny_step

TORCHRUN_SCRIPT = """
import sys
from pathlib import Path
from tests.runtime.test_distributed import run, train_share
sys.exit(run(train_share, Path(sys.argv[1]), 0, 2))
"""
TWO = Group(num_gpus=2, timeout=timedelta(seconds=60))
TOTAL_BATCH = 4


def step_with_share(start: int = 0) -> tuple[TrainStep, dict]:
    """The same model everywhere, and this process's share of a batch of four."""
    torch.set_num_threads(1)
    step = pin_points(tiny_step())
    options = {
        "batch_size": TOTAL_BATCH // num_processes(),
        "rank": process_rank(),
        "world_size": num_processes(),
        "start": start,
    }
    return step, options


def save_gradients(path: Path) -> int:
    step, options = step_with_share()
    losses = step([next(tiny_batches(**options))])
    (mean,) = average([losses["total_loss"]])
    gradients = {n: p.grad for n, p in step.model.named_parameters() if p.grad is not None}
    if process_rank() == 0:
        torch.save({"loss": mean, **gradients, **step.model.trainable_state()}, path)
    return 0


def train_share(folder: Path, first: int, last: int) -> int:
    checkpoints = CheckpointFolder(folder / "checkpoints")
    saved = checkpoints.newest()
    step, options = step_with_share(start=saved.numbers["samples_seen"] if saved else 0)
    step.criterion = tiny_step().criterion  # its random points differ between processes
    torch.manual_seed(process_rank())
    if saved:
        restore_state(step, saved)
    writers = [JsonLines(folder / "log.jsonl", resume_at=first)] if process_rank() == 0 else []
    Trainer(
        step=step,
        batches=tiny_batches(**options),
        schedule=multi_step(steps=()),
        num_iterations=last,
        checkpoints=checkpoints,
        writers=writers,
        start=first,
        samples_seen=first * TOTAL_BATCH,
        log_period=1,
    ).run()
    return 0


def train_until_told(folder: Path) -> int:
    stop = StopRequest().__enter__()
    step, options = step_with_share()

    (folder / f"running-{process_rank()}").write_text(str(os.getpid()))
    finished = Trainer(
        step=step,
        batches=tiny_batches(**options),
        schedule=multi_step(steps=()),
        num_iterations=100_000,
        checkpoints=CheckpointFolder(folder / "checkpoints"),
    ).run(stop)
    return 0 if finished else REQUEUE_EXIT_CODE


def evaluate_share(folder: Path) -> int:
    samples = Grey(13)
    writers = [LabelMaps(folder / "predictions", labels=range(256))]
    report = evaluate_grey(samples, folder / "evaluation", writers=writers)
    assert report.metrics == {"brightness/mean": 106.0}
    assert [row["image"] for row in report.per_class["brightness"]] == list(range(13))
    (folder / f"read-{process_rank()}.json").write_text(json.dumps(samples.read))
    return 0


def evaluate_on_a_disk_that_one_process_finds_full(folder: Path) -> int:
    saved = []

    def write_arrays(arrays: object, path: Path) -> None:
        if process_rank() == 1:
            raise UserError("No space left on device")
        saved.append(path)
        array_files.write_arrays(arrays, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "write_arrays", write_arrays)
        report = evaluate_grey(Grey(13), folder / "full")
    if process_rank() == 0:
        found = {"metrics": report.metrics, "saved": len(saved)}
        (folder / "unsaved.json").write_text(json.dumps(found))
    return 0


def run(main, *args, group: Group = TWO) -> int:
    return launch(main, args, group=group, device="cpu")


def all_that_two_do(folder: Path) -> int:
    """What the tests below look at, in one start of two processes."""
    for name in ("whole", "parts"):
        (folder / name).mkdir(exist_ok=True)
    exchange(folder)
    save_gradients(folder / "two.pt")
    train_share(folder / "whole", 0, 4)
    train_share(folder / "parts", 0, 2)
    train_share(folder / "parts", 2, 4)
    evaluate_share(folder)
    evaluate_on_a_disk_that_one_process_finds_full(folder)
    return 0


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have worked."""
    folder = tmp_path_factory.mktemp("two")
    assert run(all_that_two_do, folder) == 0
    return folder


def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(two: Path) -> None:
    assert run(save_gradients, two / "one.pt", group=Group()) == 0
    one, both = (torch.load(two / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert one.keys() == both.keys()
    for name in one:
        torch.testing.assert_close(both[name], one[name], rtol=1e-5, atol=1e-6, msg=name)


def test_processes_share_average_vote_and_gather(two: Path) -> None:
    assert all((two / f"done-{rank}").exists() for rank in range(2))


def test_a_resumed_run_of_two_processes_continues_exactly(two: Path) -> None:
    losses = [
        [record["total_loss"] for record in read_json_lines(two / name / "log.jsonl")]
        for name in ("whole", "parts")
    ]
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]


def test_an_evaluation_is_dealt_out_in_blocks_and_every_process_has_the_report(two: Path) -> None:
    read = [json.loads((two / f"read-{rank}.json").read_text()) for rank in range(2)]
    assert read == [[0, 1, 2, 3, 4, 10, 11, 12], [5, 6, 7, 8, 9]]


def test_two_processes_write_the_predictions_of_all_images(two: Path) -> None:
    found = sorted(path.name for path in (two / "predictions" / "semantic").iterdir())
    assert found == [f"{index:012d}.png" for index in range(13)]


def test_blocks_that_one_process_cannot_write_reach_the_others(two: Path) -> None:
    read = json.loads((two / "unsaved.json").read_text())
    assert read == {"metrics": {"brightness/mean": 106.0}, "saved": 2}


def test_alone_a_process_answers_itself() -> None:
    assert (process_rank(), num_processes()) == (0, 1)
    assert any_process(True, CPU)
    assert not any_process(False, CPU)
    assert share_text("a") == "a"
    assert average([torch.ones(2)])[0].tolist() == [1.0, 1.0]
    assert gather(torch.ones(2), CPU)[0].tolist() == [1.0, 1.0]


def _start(main: Callable[[Path], int], folder: Path) -> None:
    sys.exit(run(main, folder))


def started(main: Callable[[Path], int], folder: Path) -> BaseProcess:
    """A run whose two processes are at work; its parent is forked, which saves its imports."""
    parent = multiprocessing.get_context("fork").Process(target=_start, args=(main, folder))
    parent.start()
    while parent.is_alive() and len(list(folder.glob("running-*"))) < 2:
        time.sleep(0.05)
    return parent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_stops_all_at_the_same_iteration(
    tmp_path: Path, number: int
) -> None:
    parent = started(train_until_told, tmp_path)
    os.kill(parent.pid, number)
    parent.join(60)
    assert parent.exitcode == REQUEUE_EXIT_CODE
    saved = CheckpointFolder(tmp_path / "checkpoints").newest()
    assert saved.numbers["samples_seen"] == TOTAL_BATCH * saved.iteration > 0


def test_a_second_interrupt_ends_all_at_once(tmp_path: Path) -> None:
    parent = started(wait, tmp_path)
    for _ in range(2):
        os.kill(parent.pid, signal.SIGINT)
        time.sleep(0.2)
    parent.join(60)
    assert parent.exitcode == INTERRUPTED_EXIT_CODE


def test_a_failure_in_one_process_ends_all_with_its_status(tmp_path: Path) -> None:
    assert run(refuse_in_one, tmp_path) == 2


def test_a_mistake_that_all_processes_meet_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(UserError, match=r"^SOLVER\.MAX_ITER must be at least 1, got 0$"):
        run(err_in_both, tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_killed_process_ends_all_with_its_status_and_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(die_in_one, tmp_path) == 128 + signal.SIGKILL
    assert "process 1 terminated with signal SIGKILL: the run has ended" in caplog.text


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_run_within_the_time_out(tmp_path: Path) -> None:
    impatient = TWO._replace(timeout=timedelta(seconds=5))
    began = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)timed out|timeout"):
        run(hang_in_one, tmp_path, group=impatient)
    assert time.monotonic() - began < 300


@pytest.mark.slow
def test_torchrun_starts_the_same_run(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TORCHRUN_SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [*torchrun, "--master-port", str(free_port()), str(script), str(tmp_path)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    losses = [record["total_loss"] for record in read_json_lines(tmp_path / "log.jsonl")]
    assert len(losses) == 2


def test_one_process_is_not_started_anew(tmp_path: Path) -> None:
    assert run(refuse, tmp_path, group=Group()) == 2


@pytest.mark.parametrize(
    ("group", "device", "sentence"),
    [
        (Group(num_gpus=0), "cpu", "at least 1"),
        (Group(num_machines=2, machine_rank=2, dist_url="tcp://a:1"), "cpu", "0 to 1"),
        (Group(num_machines=2), "cpu", "--dist-url"),
        (Group(num_gpus=99), "cuda", "this machine has|no CUDA device"),
    ],
)
def test_a_group_that_does_not_fit_is_refused(group: Group, device: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        launch(refuse, (), group=group, device=device)


@pytest.mark.parametrize("group", [Group(num_gpus=4), Group(num_machines=2, dist_url="tcp://a:1")])
def test_other_numbers_than_torchruns_are_refused(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun has started 2 processes here, 2 in all"):
        launch(refuse, (), group=group, device="cpu")
