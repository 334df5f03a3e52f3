import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from frozenseg.errors import UserError
from frozenseg.training.metric_writers import (
    DeviceMean,
    JsonLines,
    OptionalWriter,
    TensorBoard,
    WeightsAndBiases,
    read_json_lines,
)


def test_the_mean_covers_what_came_since_the_last_read() -> None:
    means = DeviceMean()
    for value in (1.0, 2.0, 6.0):
        means.add({"loss": torch.tensor(value), "other": torch.tensor(2 * value)})
    assert means.read() == {"loss": 3.0, "other": 6.0}
    means.add({"loss": torch.tensor(7.0), "other": torch.tensor(0.0)})
    assert means.read() == {"loss": 7.0, "other": 0.0}
    assert means.read() == {}


def test_a_changed_set_of_names_is_refused() -> None:
    means = DeviceMean()
    means.add({"a": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="names changed"):
        means.add({"b": torch.tensor(1.0)})


def test_each_line_is_a_record(tmp_path: Path) -> None:
    writer = JsonLines(tmp_path / "metrics.jsonl")
    writer.write(20, {"loss": 1.5})
    writer.close()
    assert read_json_lines(tmp_path / "metrics.jsonl") == [{"iteration": 20, "loss": 1.5}]


def test_a_resumed_run_writes_no_iteration_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    for iteration in (1, 2, 3, 4):
        writer.write(iteration, {"loss": 0.0})
    writer.close()
    with path.open("a") as file:
        file.write('{"iteration": 5, "lo')  # killed while writing
    writer = JsonLines(path, resume_at=2)
    writer.write(3, {"loss": 9.0})
    writer.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(record["iteration"], record["loss"]) for record in records] == [(1, 0), (2, 0), (3, 9)]


def test_a_new_run_in_an_old_folder_starts_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonLines(path)
    writer.write(1, {"loss": 0.0})
    writer.close()
    JsonLines(path).close()
    assert path.read_text() == ""


def test_tensorboard_shows_the_resumed_values(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = TensorBoard(tmp_path)
    for iteration in (1, 2, 3):
        first.write(iteration, {"loss": 0.0})
    first.close()
    second = TensorBoard(tmp_path, resume_at=2)
    second.write(3, {"loss": 9.0})
    second.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(1, 0), (2, 0), (3, 9)]


def test_asking_for_weights_and_biases_without_it_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        WeightsAndBiases(tmp_path, project="p", config={})


def test_weights_and_biases_knows_a_run_again_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict] = []
    fake = SimpleNamespace(init=lambda **options: started.append(options))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for place, resume_at in (("a", 0), ("a", 5), ("b", 0), ("a", 0)):
        folder = tmp_path / place / "run"
        WeightsAndBiases(folder, project="p", config={}, resume_at=resume_at)
    begun, resumed, elsewhere, anew = (options["id"] for options in started)
    assert begun == resumed
    assert len({begun, elsewhere, anew}) == 3
    assert {options["name"] for options in started} == {"run"}


class Full:
    """A writer on a full disk."""

    def write(self, iteration: int, values: dict) -> None:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_writer_on_a_full_disk_is_turned_off_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = OptionalWriter("TensorBoard", Full)
    for iteration in range(3):
        writer.write(iteration, {"loss": 1.0})
    writer.close()
    assert [record.getMessage() for record in caplog.records] == [
        "TensorBoard cannot be written (No space left on device): the run continues without it"
    ]


def test_a_writer_that_cannot_be_opened_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    writer = OptionalWriter("metrics", lambda: JsonLines(tmp_path / "file" / "metrics.jsonl"))
    writer.write(1, {"loss": 1.0})
    assert "metrics cannot be written" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_folder_that_vanishes_does_not_end_the_run(tmp_path: Path) -> None:
    for make in (
        lambda: JsonLines(tmp_path / "run" / "metrics.jsonl"),
        lambda: TensorBoard(tmp_path / "run" / "tensorboard"),
    ):
        writer = OptionalWriter("metrics", make)
        shutil.rmtree(tmp_path / "run")
        writer.write(1, {"loss": 1.0})
        writer.close()


@pytest.mark.parametrize("line", ["[1]", "7", '{"loss": 1}', "{" * 5000, "\x1b[0m"])
def test_lines_that_are_no_records_are_left_out(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"iteration": 1, "loss": 2.0}}\n{line}\n')
    assert read_json_lines(path) == [{"iteration": 1, "loss": 2.0}]
    assert "a damaged line is left out" in caplog.text and "\x1b" not in caplog.text


def test_two_processes_that_resume_from_their_common_mean_get_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exact sums: float32 would differ in the last digit for one of these series."""

    def average_of(split: int | None, losses: torch.Tensor) -> float:
        processes = [DeviceMean(), DeviceMean()]
        for step, row in enumerate(losses):
            if step == split:
                both = sum(each._sum for each in processes) / 2
                state = {"count": step, "sums": {"loss": both.item()}}
                processes = [DeviceMean(state), DeviceMean(state)]
            for process, loss in zip(processes, row, strict=True):
                process.add({"loss": loss})
        both = sum(each._sum for each in processes) / 2
        monkeypatch.setattr("frozenseg.training.metric_writers.average", lambda _: [both])
        return processes[0].read()["loss"]

    for seed in range(50):
        losses = torch.rand(8, 2, generator=torch.Generator().manual_seed(seed)) * 60
        assert average_of(None, losses) == average_of(4, losses)
