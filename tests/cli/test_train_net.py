"""``train_net.py`` from end to end, with the real model in the shapes world, made small."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import SafetensorError

from frozenseg.builders import evaluation
from frozenseg.builders import trainer as training
from frozenseg.cli.train_net import choose_engine, main
from frozenseg.config import load_config
from frozenseg.data.shapes import ShapesDataset
from frozenseg.io.safetensors_files import read_safetensors
from frozenseg.runtime import run_folder
from frozenseg.training.checkpoints import CheckpointFolder
from frozenseg.training.metric_writers import read_json_lines

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "shapes/frozenseg.yaml"
SMALL = [
    *("INPUT.IMAGE_SIZE", "64", "INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "2"),
    *("SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "MODEL.MASK_FORMER.DEC_LAYERS", "4"),
    *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "32", "DATALOADER.NUM_WORKERS", "0"),
    *("MODEL.FROZEN_SEG.QUERY_INJECTOR_LAYERS", "(3,)", "MODEL.DEVICE", "cpu"),
    *("MODEL.FROZEN_SEG.FEATURE_INJECTOR_LAYERS", "(1,)"),
]
UNTESTED = ("DATASETS.TEST", "()")
with_detectron2 = pytest.mark.detectron2
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
TIMED = (
    "seconds_per_iteration",
    "data_wait_share",
    "images_per_second",
    "eta_seconds",
    "memory_gib",
)


def train(folder: Path, *arguments: str, opts: tuple[str, ...] = UNTESTED) -> int:
    """Runs the command on the small configuration."""
    options = ("--engine", "native", "--config-file", CONFIG, "--output", str(folder))
    return main([*options, *arguments, *SMALL, *opts])


@pytest.fixture(scope="module", autouse=True)
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Four scenes to look at, a log line per iteration, a cache and a logger of its own."""
    logger = logging.getLogger("frozenseg")
    before = logger.handlers[:], logger.level, logger.propagate
    trainer = partial(training.Trainer, log_period=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROZENSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(evaluation, "dataset_samples", lambda *_, **__: ShapesDataset("val", size=4))
        patch.setattr(training, "Trainer", trainer)
        yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture(scope="module")
def finished(small_world: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained, evaluated half-way and at the end."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train(folder, opts=("TEST.EVAL_PERIOD", "2")) == 0
    return folder


def losses(folder: Path) -> list[dict[str, float]]:
    """What each iteration wrote, but for evaluations and times."""
    records = read_json_lines(folder / "metrics.jsonl")
    return [
        {name: value for name, value in record.items() if name not in TIMED}
        for record in records
        if "total_loss" in record
    ]


def metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "inference" / "shapes_val" / "metrics.json").read_text())


def test_a_run_leaves_all_that_it_promises(finished: Path) -> None:
    assert yaml.safe_load((finished / "config.yaml").read_text())["SOLVER"]["MAX_ITER"] == 4
    about = json.loads((finished / "environment.json").read_text())
    assert about["engine"] == "native"
    assert about["packages"]["torch"]
    assert (finished / "last_checkpoint").read_text() == "checkpoints/0000004\n"
    assert list((finished / "tensorboard").iterdir())
    assert "engine: native" in (finished / "log.txt").read_text().splitlines()[0]
    weights, notes = read_safetensors(finished / "model_final.safetensors")
    assert not any(name.startswith(("clip.", "sam.")) for name in weights)
    assert {"clip", "sam", "clip_name", "config", "seed", "iteration"} <= notes.keys()


def test_training_goes_on_after_an_evaluation(finished: Path) -> None:
    assert (finished / "inference-0000002" / "shapes_val" / "metrics.json").exists()
    assert len(losses(finished)) == 4


def test_a_resumed_run_continues_exactly(finished: Path, tmp_path: Path) -> None:
    assert train(tmp_path / "run", opts=(*UNTESTED, "SOLVER.MAX_ITER", "2")) == 0
    torch.rand(7)
    assert train(tmp_path / "run", "--resume") == 0
    assert losses(tmp_path / "run") == losses(finished)
    assert "SOLVER.MAX_ITER was 2, is 4" in (tmp_path / "run" / "log.txt").read_text()


def test_the_seed_alone_decides_the_first_weights(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        torch.rand(3)  # leaves the generator in another state each time
        opts = (*UNTESTED, "SOLVER.MAX_ITER", "1", "SEED", seed)
        assert train(tmp_path / name, opts=opts) == 0
        found.append(losses(tmp_path / name))
    assert found[0] == found[1] != found[2]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("precision", "within"), [("float32", 2e-3), ("float16", 2e-3), ("bfloat16", 2e-2)]
)
def test_a_run_on_cuda_goes_on_with_the_losses_of_a_whole_one(
    tmp_path: Path, precision: str, within: float
) -> None:
    """Sums over threads come in any order. Other random points change the loss by about 5e-3."""
    opts = (*UNTESTED, "MODEL.DEVICE", "cuda")
    if precision != "float32":
        opts += ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", precision)
    assert train(tmp_path / "whole", opts=opts) == 0
    assert train(tmp_path / "cut", opts=(*opts, "SOLVER.MAX_ITER", "2")) == 0
    assert train(tmp_path / "cut", "--resume", opts=opts) == 0
    whole, cut = losses(tmp_path / "whole"), losses(tmp_path / "cut")
    assert len(cut) == len(whole) == 4
    for ours, expected in zip(cut, whole, strict=True):
        assert ours["total_loss"] == pytest.approx(expected["total_loss"], rel=within)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", pytest.param("detectron2", marks=with_detectron2)])
def test_torchrun_trains_and_evaluates_through_nccl(tmp_path: Path, engine: str) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    command = [
        *(*torchrun, str(ROOT / "train_net.py"), "--engine", engine, "--config-file", CONFIG),
        *("--output", str(tmp_path), *SMALL, "MODEL.DEVICE", "cuda", "SOLVER.AMP.ENABLED", "True"),
    ]
    subprocess.run(command, check=True, timeout=600)
    assert "semantic/mIoU" in metrics(tmp_path)


def test_an_unset_seed_is_kept_when_the_run_goes_on(tmp_path: Path) -> None:
    for last in ("1", "2"):
        train(tmp_path, "--resume", opts=(*UNTESTED, "SEED", "-1", "SOLVER.MAX_ITER", last))
    paths = CheckpointFolder(tmp_path / "checkpoints").paths()
    seeds = {read_safetensors(path / "weights.safetensors")[1]["seed"] for path in paths}
    assert len(paths) == 2
    assert len(seeds) == 1


def test_the_end_is_evaluated_and_written_with_the_losses(finished: Path) -> None:
    found = metrics(finished)
    assert {"panoptic/seen/PQ", "panoptic/unseen/PQ", "semantic/mIoU", "instance/AP"} <= set(found)
    last = read_json_lines(finished / "metrics.jsonl")[-1]
    assert (last["iteration"], last["semantic/mIoU"]) == (4, found["semantic/mIoU"])


def test_eval_only_finds_what_the_end_of_training_found(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(finished / "model_final.safetensors")
    assert train(tmp_path, "--eval-only", opts=("MODEL.WEIGHTS", weights)) == 0
    assert metrics(tmp_path) == metrics(finished)
    assert "shapes_val" in capsys.readouterr().out


def test_eval_only_takes_the_newest_checkpoint_of_the_run(finished: Path) -> None:
    before = metrics(finished)
    shutil.rmtree(finished / "inference")
    assert train(finished, "--eval-only", opts=()) == 0
    assert metrics(finished) == before


@pytest.mark.parametrize(
    ("arguments", "opts", "sentence"),
    [
        ((), ("SOLVER.BASE_LRR", "1"), "SOLVER.BASE_LR"),
        ((), ("SOLVER.OPTIMIZER", "SGD"), "must be 'ADAMW'"),
        ((), ("SOLVER.IMS_PER_BATCH", "3"), "--accumulate"),
        ((), ("DATASETS.TRAIN", "()"), "name exactly one"),
        pytest.param((), ("MODEL.DEVICE", "cuda"), "CUDA", marks=without_cuda),
        (("--eval-only",), (), "MODEL.WEIGHTS is empty"),
        (("--num-gpus", "0"), (), "at least 1"),
        (("--engine", "detectron2"), (), "--engine native"),
        (("--wandb", "project"), (), "pip install wandb"),
        (("--save-predictions", "out"), (), "--save-predictions needs --eval-only"),
        ((), ("SOLVER.MAX_ITER", "0"), "SOLVER.MAX_ITER must be a whole number from 1"),
        ((), ("SOLVER.IMS_PER_BATCH", "0"), "SOLVER.IMS_PER_BATCH must be a whole number from 1"),
        ((), ("DATALOADER.NUM_WORKERS", "-1"), "NUM_WORKERS must be a whole number from 0"),
        ((), ("INPUT.IMAGE_SIZE", "0"), "INPUT.IMAGE_SIZE must be a whole number from 1"),
        ((), ("MODEL.DEVICE", "gpu"), "must be auto, cpu, cuda"),
        ((), ("SOLVER.MAX_ITER", "2", "--resume"), "--resume comes after KEY VALUE pairs"),
        (("--num-gpus", "2", "--dist-url", "localhost:1"), (), "tcp://FIRST_MACHINE:29500"),
        (("--output", __file__), (), "cannot be made (File exists)"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    opts: tuple[str, ...],
    sentence: str,
) -> None:
    assert train(tmp_path, "--accumulate", "2", *arguments, opts=opts) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert sentence in lines[-1]
    assert "Traceback" not in "".join(lines)


def test_checkpoints_that_nobody_can_read_are_not_taken_for_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path) == 0
    before = (tmp_path / "metrics.jsonl").read_bytes()
    for path in CheckpointFolder(tmp_path / "checkpoints").paths():
        (path / "training.safetensors").write_bytes(b"cut")
    assert train(tmp_path, "--resume") == 2
    assert "none of the checkpoints in" in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_beyond_the_end_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path) == 0
    assert train(tmp_path, "--resume", opts=(*UNTESTED, "SOLVER.MAX_ITER", "3")) == 2
    assert "0000004 is beyond SOLVER.MAX_ITER 3" in capsys.readouterr().err.splitlines()[-1]


def test_a_clean_checkout_leaves_no_diff_of_an_earlier_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for state in (("abc", "a change", ["new.py"]), ("abc", "", [])):
        monkeypatch.setattr(run_folder, "git_state", lambda _, state=state: state)
        run_folder.describe_run(tmp_path, load_config(Path(CONFIG)).dump(), engine="native")
        about = json.loads((tmp_path / "environment.json").read_text())
        assert about["files_not_in_git"] == state[2]
        assert (tmp_path / "code.diff").exists() == bool(state[1])


def test_a_folder_with_checkpoints_is_not_overwritten(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(finished) == 2
    assert "pass --resume" in capsys.readouterr().err


def test_weights_of_another_architecture_are_refused_on_resume(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "31", *UNTESTED)
    assert train(finished, "--resume", opts=more) == 2
    assert "query_features.weight is (30, 64), expected (31, 64)" in capsys.readouterr().err


def test_a_training_ends_well_although_reports_and_metrics_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("frozenseg.training.metric_writers.JsonLines.write", full)
    monkeypatch.setattr("frozenseg.builders.evaluation.write_report", full)
    assert train(tmp_path, opts=()) == 0
    log = (tmp_path / "log.txt").read_text()
    assert "metrics cannot be written (No space left on device)" in log
    assert "the report of shapes_val: not written, the run continues" in log
    assert (tmp_path / "model_final.safetensors").is_file()


def test_a_checkpoint_on_a_full_disk_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("frozenseg.io.safetensors_files.save_file", full)
    assert train(tmp_path) == 2
    assert "0000002 cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_eval_only_saves_predictions(finished: Path, tmp_path: Path) -> None:
    weights = str(finished / "model_final.safetensors")
    arguments = ("--eval-only", "--save-predictions", str(tmp_path / "found"))
    assert train(tmp_path / "run", *arguments, opts=("MODEL.WEIGHTS", weights)) == 0
    folder = tmp_path / "found" / "shapes_val"
    assert {path.name for path in folder.iterdir()} == {
        "instances.json",
        "panoptic",
        "panoptic.json",
        "semantic",
    }
    assert len(list((folder / "panoptic").iterdir())) == 4


def test_dump_config_prints_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config-file", CONFIG, "--dump-config", "SEED", "9"]) == 0
    dumped = yaml.safe_load(capsys.readouterr().out)
    assert run_folder.flat(dumped) == run_folder.flat(load_config(CONFIG, ["SEED", "9"]))


def test_auto_takes_detectron2_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from frozenseg.cli import train_net as command

    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert choose_engine("auto") == "native"
    monkeypatch.setattr(command, "find_spec", lambda name: name)
    assert choose_engine("auto") == "detectron2"
    assert choose_engine("native") == "native"


@pytest.mark.slow
def test_a_signal_to_the_whole_job_ends_it_with_75_and_resume_goes_on(tmp_path: Path) -> None:
    command = [
        *(sys.executable, str(ROOT / "train_net.py"), "--config-file", CONFIG),
        *("--engine", "native", "--output", str(tmp_path), "--resume", *SMALL, *UNTESTED),
        *("DATALOADER.NUM_WORKERS", "1", "SOLVER.MAX_ITER", "100000"),
    ]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "saved" in line:
                os.killpg(process.pid, signal.SIGTERM)  # the worker that fetches data, too
                break
        said = process.stderr.read()
    assert process.returncode == 75, said
    checkpoints = CheckpointFolder(tmp_path / "checkpoints")
    stopped = checkpoints.newest()
    assert stopped is not None
    one_more = str(stopped.iteration + 1)
    opts = (*UNTESTED, "DATALOADER.NUM_WORKERS", "1", "SOLVER.MAX_ITER", one_more)
    assert train(tmp_path, "--resume", opts=opts) == 0
    assert checkpoints.newest().iteration == stopped.iteration + 1
