"""The loop as a whole: resuming, stopping, divergence, accumulation."""

import logging
import math
import os
import signal
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from frozenseg.runtime.signals import REQUEUE_EXIT_CODE, StopRequest
from frozenseg.structures import Target
from frozenseg.training.checkpoints import Checkpoint, CheckpointFolder
from frozenseg.training.divergence import Diverged
from frozenseg.training.metric_writers import JsonLines, read_json_lines
from frozenseg.training.step import Batch, TrainStep
from frozenseg.training.trainer import Trainer
from frozenseg.training.training_state import restore_state
from tests.fixtures.training import CPU, pin_points, tiny_batches, tiny_step

MakeTrainer = Callable[..., Trainer]
TIMES = (
    "seconds_per_iteration",
    "data_wait_share",
    "images_per_second",
    "eta_seconds",
    "memory_gib",
)


def untimed(log: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in record.items() if name not in TIMES}
        for record in read_json_lines(log)
    ]


def constant(iteration: int) -> float:
    return 1.0


def resume(make: MakeTrainer, step: TrainStep, saved: Checkpoint, **changes: object) -> Trainer:
    restore_state(step, saved)
    seen = saved.numbers["samples_seen"]
    batches = tiny_batches(start=seen)
    return make(step=step, start=saved.iteration, samples_seen=seen, batches=batches, **changes)


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    whole_step = tiny_step()
    whole = make_trainer(
        step=whole_step,
        checkpoints=CheckpointFolder(tmp_path / "whole"),
        writers=[JsonLines(tmp_path / "whole.jsonl")],
    )
    assert whole.run()

    log = tmp_path / "parts.jsonl"
    make_trainer(num_iterations=3, writers=[JsonLines(log)]).run()
    step = tiny_step()
    torch.rand(100)  # where the random numbers stand now must not matter
    saved = make_trainer().checkpoints.newest()
    resumed = resume(make_trainer, step, saved, writers=[JsonLines(log, resume_at=3)])
    assert resumed.run()

    assert len(untimed(log)) == 6
    assert untimed(log) == untimed(tmp_path / "whole.jsonl")
    ours, theirs = step.model.trainable_state(), whole_step.model.trainable_state()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_training_lowers_the_loss(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    make_trainer(
        step=tiny_step(lr=0.03),
        num_iterations=90,
        schedule=constant,
        writers=[JsonLines(log)],
        log_period=30,
    ).run()
    losses = [record["total_loss"] for record in read_json_lines(log)]
    assert len(losses) == 3
    assert losses[-1] < 0.8 * losses[0]


def test_the_frozen_part_stays_as_it_was(make_trainer: MakeTrainer) -> None:
    step = tiny_step()
    before = step.model.clip.weight.clone()
    make_trainer(step=step, num_iterations=2).run()
    assert torch.equal(step.model.clip.weight, before)


def test_checkpoints_come_at_the_period_and_at_the_end(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(num_iterations=5, checkpoint_period=2)
    trainer.run()
    assert [path.name for path in trainer.checkpoints.paths()] == ["0000005", "0000004", "0000002"]


def signalled(batches: Iterator[Batch], number: int, after: int) -> Iterator[Batch]:
    yield from islice(batches, after)
    os.kill(os.getpid(), number)
    yield from batches


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run(make_trainer: MakeTrainer, number: int) -> None:
    before = signal.getsignal(number)
    trainer = make_trainer(batches=signalled(tiny_batches(), number, after=2))
    with StopRequest() as stop:
        assert not trainer.run(stop)
    assert trainer.checkpoints.newest().iteration == 3
    assert signal.getsignal(number) is before


def test_a_signal_in_the_last_iteration_is_not_forgotten(make_trainer: MakeTrainer) -> None:
    step = tiny_step()
    trainer = make_trainer(step=step, batches=signalled(tiny_batches(), signal.SIGTERM, after=5))
    with StopRequest() as stop:
        assert not trainer.run(stop)
    saved = trainer.checkpoints.newest()
    assert saved.iteration == trainer.num_iterations == 6
    assert resume(make_trainer, step, saved).run()  # there is nothing left to train


def test_a_signal_in_an_evaluation_leaves_at_once_and_loses_nothing(
    make_trainer: MakeTrainer,
) -> None:
    seen: list[int] = []

    def evaluate(iteration: int) -> dict[str, float]:
        seen.append(iteration)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return {}

    step, options = tiny_step(), {"evaluate": evaluate, "evaluation_period": 2}
    trainer = make_trainer(step=step, **options)
    with pytest.raises(SystemExit) as left, StopRequest() as stop:
        trainer.run(stop)
    assert left.value.code == REQUEUE_EXIT_CODE
    saved = trainer.checkpoints.newest()
    assert saved.iteration == 2
    assert resume(make_trainer, step, saved, **options).run()
    assert seen == [2, 2, 4]  # what was interrupted is made up for


def test_a_line_of_the_log_covers_its_iterations_though_the_run_was_cut(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    logs = [tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"]
    whole, cut = ({"writers": [JsonLines(log)], "log_period": 4} for log in logs)
    make_trainer(checkpoints=CheckpointFolder(tmp_path / "whole"), **whole).run()
    step = tiny_step()
    trainer = make_trainer(
        step=step, batches=signalled(tiny_batches(), signal.SIGTERM, after=2), **cut
    )
    with StopRequest() as stop:
        trainer.run(stop)
    saved = trainer.checkpoints.newest()
    assert saved.iteration == 3
    resume(make_trainer, step, saved, unlogged=saved.numbers["unlogged"], **cut).run()
    assert untimed(logs[1]) == untimed(logs[0])
    assert [record["iteration"] for record in untimed(logs[1])] == [4, 6]


def broken_loss(step: TrainStep, *, at: int, value: float) -> None:
    """Makes the ``at``-th batch's loss come out as ``value``."""
    criterion, calls = step.criterion, iter(range(1, 100))

    def broken(*args: object, **options: object) -> dict[str, Tensor]:
        losses = criterion(*args, **options)
        if next(calls) == at:
            losses["loss_mask"] = losses["loss_mask"] * 0 + value
        return losses

    step.criterion = broken


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9])
def test_an_exploding_loss_ends_the_run_and_names_loss_and_images(
    make_trainer: MakeTrainer, value: float
) -> None:
    step = tiny_step()
    broken_loss(step, at=5, value=value)
    trainer = make_trainer(step=step, checkpoint_period=2)
    batch = list(islice(tiny_batches(), 5))[-1]
    with pytest.raises(Diverged, match=r"loss_mask = (nan|inf|1e\+09)") as report:
        trainer.run()
    assert all(name in str(report.value) for name in batch.names)
    assert trainer.iteration == 4
    saved = trainer.checkpoints.newest()
    assert saved.iteration == 4
    assert all(value.isfinite().all() for value in saved.weights.values())
    assert all(
        torch.equal(value, saved.weights[name])
        for name, value in step.model.trainable_state().items()
    )


def test_a_broken_gradient_names_the_parameters_and_the_images_that_made_it(
    make_trainer: MakeTrainer,
) -> None:
    step = tiny_step()
    trainer = make_trainer(step=step)
    calls = iter(range(1, 100))
    step.model.classes.weight.register_hook(
        lambda gradient: gradient * math.nan if next(calls) == 3 else gradient
    )
    third, fourth = list(islice(tiny_batches(), 4))[2:]
    with pytest.raises(
        Diverged, match=r"not finite in 1 of \d+ parameters.*classes\.weight"
    ) as report:
        trainer.run()
    assert all(name in str(report.value) for name in third.names)
    assert not all(name in str(report.value) for name in fourth.names)
    assert all(value.isfinite().all() for value in step.model.trainable_state().values())


def test_a_broken_gradient_of_the_last_iteration_is_not_saved(make_trainer: MakeTrainer) -> None:
    step = tiny_step()
    trainer = make_trainer(step=step, num_iterations=2, checkpoint_period=1)
    calls = iter(range(1, 100))
    step.model.pixels.bias.register_hook(lambda g: g / 0 if next(calls) == 2 else g)
    with pytest.raises(Diverged, match=r"pixels\.bias"):
        trainer.run()
    assert trainer.checkpoints.newest().iteration == 1


def test_predictions_that_cannot_be_matched_name_their_images(make_trainer: MakeTrainer) -> None:
    step = tiny_step()
    with torch.no_grad():
        step.model.classes.bias.fill_(math.nan)
    first = next(tiny_batches())
    with pytest.raises(Diverged, match=r"nan or infinite.*Images: " + first.names[0]):
        make_trainer(step=step).run()


def gradients(step: TrainStep) -> dict[str, Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in step.model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("uneven", [False, True])
def test_two_accumulated_halves_have_the_gradient_of_the_whole(uneven: bool) -> None:
    whole, halves = pin_points(tiny_step()), pin_points(tiny_step())
    batch = next(tiny_batches(batch_size=4))
    if uneven:  # the first half has fewer masks; class terms are means of each part, so leave them
        batch.targets[0] = Target(*(part[:1] for part in batch.targets[0]))
        whole.criterion.class_weight = halves.criterion.class_weight = 0.0
    whole([batch])
    columns = batch[:-1]
    cuts = (slice(0, 2), slice(2, 4))
    parts = [Batch(*(column[cut] for column in columns), visits=2) for cut in cuts]
    halves(parts)
    assert gradients(whole).keys() == gradients(halves).keys()
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(halves)[name], gradient, msg=name)


def test_a_parameter_that_nothing_reads_stays_as_it_was(make_trainer: MakeTrainer) -> None:
    step = tiny_step()
    before = step.model.unread.weight.clone()
    make_trainer(step=step, num_iterations=2).run()
    assert torch.equal(step.model.unread.weight, before)


def test_bfloat16_trains(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    step = tiny_step(lr=0.03, autocast=torch.bfloat16)
    make_trainer(
        step=step, num_iterations=90, schedule=constant, log_period=30, writers=[JsonLines(log)]
    ).run()
    losses = [record["total_loss"] for record in read_json_lines(log)]
    assert losses[-1] < 0.8 * losses[0]


def test_float16_leaves_out_updates_while_it_looks_for_a_loss_scale(
    make_trainer: MakeTrainer,
) -> None:
    step = tiny_step(autocast=torch.float16)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22)
    before = step.model.classes.weight.clone()
    trainer = make_trainer(step=step, num_iterations=1)
    trainer.run()
    assert torch.equal(step.model.classes.weight, before)
    trainer.num_iterations = 20
    trainer.run()
    assert not torch.equal(step.model.classes.weight, before)
    assert step.scaler.get_scale() < 2.0**22


def test_a_loss_scale_that_no_search_finds_ends_the_run(make_trainer: MakeTrainer) -> None:
    step = tiny_step(autocast=torch.float16)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    step.model.classes.bias.register_hook(lambda gradient: gradient * math.nan)
    trainer = make_trainer(step=step, num_iterations=20)
    with pytest.raises(Diverged, match=r"classes\.bias"):
        trainer.run()
    assert trainer.iteration < 8


def test_evaluations_come_at_their_period_and_are_written(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    step = tiny_step()

    def evaluate(iteration: int) -> dict[str, float]:
        step.model.eval()
        return {"panoptic/PQ": float(iteration)}

    log = tmp_path / "metrics.jsonl"
    make_trainer(step=step, writers=[JsonLines(log)], evaluate=evaluate, evaluation_period=2).run()
    scores = [record["panoptic/PQ"] for record in read_json_lines(log) if "panoptic/PQ" in record]
    assert scores == [2.0, 4.0]  # the end is evaluated by who started the run
    assert step.model.training


def test_each_log_line_says_how_far_and_how_fast(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="frozenseg"):
        make_trainer(num_iterations=2, log_period=2).run()
    (line,) = (text for text in caplog.messages if text.startswith("iteration"))
    for part in ("iteration 2/2", "images/s", "waiting for data", "GiB", "0:00:00 left"):
        assert part in line


def test_the_cpu_state_returns_on_another_number_of_processes(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    make_trainer(num_iterations=1).run()
    saved = make_trainer().checkpoints.newest()
    saved.numbers["num_processes"] = 4
    step = tiny_step()
    restore_state(step, saved)
    assert "random states are not restored" in caplog.text
    assert step.device == CPU
