import json
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from frozenseg.errors import UserError
from frozenseg.evaluation.evaluators import EvaluatorSpec
from frozenseg.evaluation.loop import BLOCKS, Report, evaluate
from frozenseg.evaluation.speed import IN_SEQUENCE, MODEL
from frozenseg.io.files import atomic_write
from frozenseg.structures import InputImage, Result, Sample


class Brightness:
    """Remembers which images it saw and how bright their results were."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def process(self, result: Result, sample: Sample) -> None:
        self.seen.append((int(sample.image_id), float(result.semantic.float().mean())))

    def evaluate(self) -> dict[str, float]:
        return {"brightness/mean": float(np.mean([value for _, value in self.seen]))}

    def per_class(self) -> list:
        return [{"image": image} for image, _ in self.seen]

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"seen": np.array(self.seen)}

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        self.seen += [(int(image), float(value)) for image, value in other["seen"]]


class Grey:
    """Sample ``i`` is an image of value ``i``."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        image = torch.full((3, 4, 6), index, dtype=torch.uint8)
        return Sample(image=image, image_id=index, file_name="")


EVALUATORS = [
    EvaluatorSpec("brightness", Brightness, lambda evaluator, *image: evaluator.process(*image))
]


def predict(images: list[InputImage]) -> list[Result]:
    assert all(image.output_size == (4, 6) for image in images)
    assert all(int(each.pixels.max()) == int(each.original.max()) + 100 for each in images)
    return [Result(semantic=image.pixels[0].long()) for image in images]


def run(samples: Grey, folder: Path, **changes: object) -> Report:
    settings: dict = {
        "prepare": lambda sample: sample.image + 100,
        "predict": predict,
        "evaluators": EVALUATORS,
        "folder": folder,
        "key": "same",
        "batch_size": 2,
        "block_size": 5,
    }
    return evaluate(samples, **(settings | changes))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_sample_is_evaluated_once_as_prepared(tmp_path: Path, num_workers: int) -> None:
    report = run(Grey(13), tmp_path, num_workers=num_workers)
    assert report.metrics == {"brightness/mean": 106.0}
    assert [row["image"] for row in report.per_class["brightness"]] == list(range(13))
    assert not (tmp_path / BLOCKS).exists()


def test_a_signal_to_the_whole_job_leaves_the_workers_alone(tmp_path: Path) -> None:
    def signalled(images: list[InputImage]) -> list[Result]:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGTERM)
        return predict(images)

    report = run(Grey(13), tmp_path, num_workers=1, predict=signalled)
    assert report.metrics == {"brightness/mean": 106.0}


def interrupted(folder: Path) -> None:
    def dies_at_twelve(images: list[InputImage]) -> list[Result]:
        if int(images[0].pixels.max()) == 112:
            raise KeyboardInterrupt
        return predict(images)

    with pytest.raises(KeyboardInterrupt):
        run(Grey(13), folder, predict=dies_at_twelve)


def test_an_interrupted_evaluation_goes_on_after_its_finished_blocks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(tmp_path)
    samples = Grey(13)
    with caplog.at_level(logging.INFO):
        report = run(samples, tmp_path, resume=True)
    assert samples.read == [10, 11, 12]
    assert "resuming after 2 finished blocks" in caplog.text
    assert report == run(Grey(13), tmp_path / "whole")


def test_metrics_of_a_batch_are_computed_while_the_model_predicts_the_next(tmp_path: Path) -> None:
    second_begun = Event()

    def announced(images: list[InputImage]) -> list[Result]:
        if int(images[0].pixels.max()) == 102:
            second_begun.set()
        return predict(images)

    def feed(evaluator: Brightness, result: Result, sample: Sample) -> None:
        assert second_begun.wait(timeout=30), "the second batch waits for the metrics of the first"
        evaluator.process(result, sample)

    waiting = [EvaluatorSpec("brightness", Brightness, feed)]
    report = run(Grey(4), tmp_path, predict=announced, evaluators=waiting)
    assert report.metrics == {"brightness/mean": 101.5}


def test_a_metric_that_fails_stops_the_run_and_leaves_no_incomplete_block(tmp_path: Path) -> None:
    def feed(evaluator: Brightness, result: Result, sample: Sample) -> None:
        if sample.image_id == 7:
            raise UserError("image 7 has no annotation")
        evaluator.process(result, sample)

    broken = [EvaluatorSpec("brightness", Brightness, feed)]
    with pytest.raises(UserError, match="image 7"):
        run(Grey(13), tmp_path, evaluators=broken)
    samples = Grey(13)
    assert run(samples, tmp_path, resume=True) == run(Grey(13), tmp_path / "whole")
    assert samples.read == list(range(5, 13))


def test_the_report_knows_how_long_each_stage_took(tmp_path: Path) -> None:
    def slow(images: list[InputImage]) -> list[Result]:
        time.sleep(0.01)
        return predict(images)

    speed = run(Grey(13), tmp_path, predict=slow).speed
    assert speed is not None and speed.num_images == 13
    in_sequence = sum(speed.stages[stage] for stage in IN_SEQUENCE)
    assert 8 * 0.01 <= speed.stages[MODEL] <= in_sequence <= speed.seconds
    assert "13 images in" in str(speed) and "model" in str(speed)


@pytest.mark.parametrize("changes", [{"resume": False}, {"resume": True, "key": "other weights"}])
def test_blocks_of_anything_else_are_not_taken_over(tmp_path: Path, changes: dict) -> None:
    interrupted(tmp_path)
    samples = Grey(13)
    run(samples, tmp_path, **changes)
    assert samples.read == list(range(13))


def test_a_block_cut_short_is_never_seen(tmp_path: Path) -> None:
    interrupted(tmp_path)
    names = sorted(path.name for path in (tmp_path / BLOCKS).iterdir())
    assert names == ["000000.npz", "000001.npz", "key.json"]
    assert json.loads((tmp_path / BLOCKS / "key.json").read_text()) == "same"


@pytest.mark.parametrize("damage", ["flipped bit", "cut", "empty"])
def test_a_damaged_block_is_evaluated_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(tmp_path)
    path = tmp_path / BLOCKS / "000001.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flipped bit": content, "cut": content[:-9], "empty": b""}[damage])
    samples = Grey(13)
    assert run(samples, tmp_path, resume=True) == run(Grey(13), tmp_path / "whole")
    assert samples.read == list(range(5, 13))
    assert "000001.npz" in caplog.text and "the block is evaluated again" in caplog.text


@pytest.mark.parametrize("full_from", [0, 1], ids=["at the start", "later"])
def test_a_full_disk_does_not_end_an_evaluation(
    tmp_path: Path, full_from: int, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    written: list[Path] = []

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        if len(written) >= full_from:
            raise OSError(28, "No space left on device")
        written.append(path)
        with atomic_write(path) as part:
            yield part

    monkeypatch.setattr("frozenseg.io.writing.atomic_write", full)
    monkeypatch.setattr("frozenseg.io.array_files.atomic_write", full)
    report = run(Grey(13), tmp_path)
    assert report.metrics == {"brightness/mean": 106.0}
    assert "No space left" in caplog.text and "resumed" in caplog.text
