"""Same run, either engine: losses, groups, rates; a checkpoint of one resumes in the other."""

import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import yaml
from fvcore.common.config import CfgNode
from torch import Tensor

pytest.importorskip("detectron2", reason="needs Detectron2")

from detectron2.engine import HookBase

from frozenseg.builders.options import RunOptions
from frozenseg.builders.trainer import build_training
from frozenseg.builders.training import build_adamw, build_schedule
from frozenseg.checkpoint.weights import load_weights, save_weights
from frozenseg.detectron2 import Trainer, detectron2_config, run
from frozenseg.detectron2.datasets import records_of
from frozenseg.detectron2.trainer import UnscalingScaler
from frozenseg.errors import UserError
from frozenseg.runtime.run_folder import differences
from frozenseg.runtime.signals import REQUEUE_EXIT_CODE
from frozenseg.training.checkpoints import CheckpointFolder
from frozenseg.training.divergence import Diverged
from frozenseg.training.optimizer import ClippedAdamW, set_learning_rate
from tests.detectron2.conftest import Configure

pytestmark = pytest.mark.detectron2

Losses = dict[str, float]
Engine = Callable[..., list[Losses]]
SHORT = {"SOLVER.MAX_ITER": 6, "SOLVER.STEPS": (5,)}


@pytest.fixture
def silent(configure: Configure) -> Configure:
    """Configurations without an evaluation at the end."""
    return lambda **changes: configure(**{"DATASETS.TEST": ()} | changes)


class Memory:
    """A writer of the native engine that keeps the losses."""

    def __init__(self) -> None:
        self.losses: list[Losses] = []

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        self.losses.append({name: value for name, value in values.items() if "loss" in name})

    def close(self) -> None: ...


class Notes(HookBase):
    """A hook of Detectron2 that keeps the losses, and asks the run to stop if told to."""

    def __init__(self, *, stop_in: int | None) -> None:
        self.losses: list[Losses] = []
        self.stop_in = stop_in

    def before_step(self) -> None:
        if self.trainer.iter + 1 == self.stop_in:
            os.kill(os.getpid(), signal.SIGTERM)

    def after_step(self) -> None:
        latest = self.trainer.storage.latest().items()
        self.losses.append({name: value for name, (value, _) in latest if "loss" in name})


def native(cfg: CfgNode, *, resume: bool = False) -> list[Losses]:
    memory = Memory()
    device, options = torch.device(cfg.MODEL.DEVICE), RunOptions(resume=resume)
    trainer = build_training(cfg, device=device, options=options).trainer
    trainer.writers, trainer.log_period = [memory], 1
    trainer.run()
    return memory.losses


def train_natively(cfg: CfgNode) -> None:
    build_training(cfg, device=torch.device("cpu")).trainer.run()


def with_detectron2(
    cfg: CfgNode, *, resume: bool = False, stop_in: int | None = None
) -> list[Losses]:
    trainer = Trainer(detectron2_config(cfg))
    notes = Notes(stop_in=stop_in)
    trainer.register_hooks([notes])
    trainer.resume_or_load(resume)
    trainer.train()
    return notes.losses


def assert_agree(
    first: list[Losses], second: list[Losses], *, count: int, within: float = 1e-4
) -> None:
    assert len(first) == len(second) == count
    for ours, theirs in zip(first, second, strict=True):
        assert ours == pytest.approx(theirs, rel=within)


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def test_the_first_20_losses_of_both_engines_agree(silent: Configure, tmp_path: Path) -> None:
    ours = native(silent(OUTPUT_DIR=str(tmp_path / "native")))
    theirs = with_detectron2(silent(OUTPUT_DIR=str(tmp_path / "detectron2")))
    assert_agree(theirs, ours, count=20)
    assert ours[-1]["total_loss"] < ours[0]["total_loss"]  # it is a training that they agree on


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_the_engines_agree_in_mixed_precision(
    silent: Configure, tmp_path: Path, precision: str
) -> None:
    mixed = {"MODEL.DEVICE": "cuda", "SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": precision}
    mixed |= {"SOLVER.MAX_ITER": 5, "SOLVER.STEPS": (4,)}  # rounding, in any order, adds up
    ours = native(silent(**mixed, OUTPUT_DIR=str(tmp_path / "native")))
    theirs = with_detectron2(silent(**mixed, OUTPUT_DIR=str(tmp_path / "detectron2")))
    assert_agree(theirs, ours, count=5, within=1e-2)


@pytest.mark.parametrize(
    ("begins", "goes_on"), [(native, with_detectron2), (with_detectron2, native)]
)
def test_a_checkpoint_of_one_engine_resumes_in_the_other(
    silent: Configure, tmp_path: Path, begins: Engine, goes_on: Engine
) -> None:
    short = SHORT | {"SOLVER.CHECKPOINT_PERIOD": 3}
    whole = begins(silent(**short, OUTPUT_DIR=str(tmp_path / "whole")))
    cut = silent(**short, OUTPUT_DIR=str(tmp_path / "cut"))
    begins(cut)
    last, middle = CheckpointFolder(tmp_path / "cut" / "checkpoints").paths()
    assert (last.name, middle.name) == ("0000006", "0000003")
    shutil.rmtree(last)
    rest = goes_on(cut, resume=True)
    assert_agree(whole[3:], rest, count=3)


def test_parameter_groups_are_those_of_the_native_engine(silent: Configure) -> None:
    cfg = silent()
    trainer = Trainer(detectron2_config(cfg))
    ours, theirs = build_adamw(cfg, trainer.model.network), trainer.optimizer
    assert isinstance(theirs, ClippedAdamW)
    assert theirs.clip_norm == cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE
    for first, second in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert all(a is b for a, b in zip(first["params"], second["params"], strict=True))
        assert first["weight_decay"] == second["weight_decay"]
        assert first["initial_lr"] == second["initial_lr"]


@pytest.mark.parametrize("start", [0, 3, 14])
def test_learning_rates_are_those_of_the_native_engine(silent: Configure, start: int) -> None:
    cfg = silent()
    parameter = torch.nn.Parameter(torch.zeros(1))
    ours, theirs = (ClippedAdamW([{"params": [parameter], "lr": 0.5}]) for _ in range(2))
    for optimizer in (ours, theirs):
        optimizer.param_groups[0]["initial_lr"] = 0.5
    scheduler = Trainer.build_lr_scheduler(detectron2_config(cfg), theirs, start=start)
    for iteration in range(start, 20):
        set_learning_rate(ours, build_schedule(cfg)(iteration))
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
        theirs.step()
        scheduler.step()


def test_a_run_that_is_asked_to_stop_saves_itself_and_says_so(silent: Configure) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cfg = silent(**SHORT)
    with pytest.raises(SystemExit) as ended:
        with_detectron2(cfg, stop_in=2)
    assert ended.value.code == REQUEUE_EXIT_CODE
    assert CheckpointFolder(Path(cfg.OUTPUT_DIR) / "checkpoints").newest().iteration == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_request_in_the_last_iteration_is_not_forgotten(
    silent: Configure, tmp_path: Path
) -> None:
    cfg = silent(**SHORT)
    with pytest.raises(SystemExit) as left:
        with_detectron2(cfg, stop_in=6)
    assert left.value.code == REQUEUE_EXIT_CODE
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").newest().iteration == 6


def test_a_signal_in_an_evaluation_leaves_at_once_and_it_is_made_up_for(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def evaluate(cls: type, cfg: object, model: torch.nn.Module) -> dict[str, dict[str, float]]:
        seen.append(len(CheckpointFolder(tmp_path / "run" / "checkpoints").paths()))
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"semantic": {"mIoU": 1.0}}

    monkeypatch.setattr(Trainer, "test", classmethod(evaluate))
    cfg = configure(**SHORT, **{"TEST.EVAL_PERIOD": 3})
    assert run(cfg) == REQUEUE_EXIT_CODE
    assert seen == [1]  # it was saved before
    assert run(cfg, resume=True) == 0
    assert seen == [1, 1, 2]
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "semantic/mIoU" in line] == [3, 6]


class Breaks(HookBase):
    """Multiplies a loss, or a parameter's gradient, from the third iteration on."""

    def __init__(self, *, loss: float = 1.0, gradient: float = 1.0) -> None:
        self.loss, self.gradient = loss, gradient

    def before_step(self) -> None:
        if self.trainer.iter != 2:
            return
        model, by, scale = self.trainer.model, self.loss, self.gradient
        criterion = model.criterion

        def broken(*args: object) -> dict[str, Tensor]:
            losses = criterion(*args)
            return losses | {"loss_dice": losses["loss_dice"] * by}

        model.criterion = broken
        model.network.void_embedding.weight.register_hook(lambda gradient: gradient * scale)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Breaks(loss=math.nan), r"Loss became infinite or NaN.*Images: shapes/\d+, shapes/\d+\. "),
        (Breaks(loss=1e9), r"loss_dice = \S+e\+\d+.*Images: shapes/\d+, shapes/\d+\. "),
        (
            Breaks(gradient=math.nan),
            r"in 1 of \d+ parameters.* void_embedding\.weight\. Images: shapes/\d+, shapes",
        ),
    ],
    ids=["nan", "explodes", "gradient"],
)
def test_a_run_that_diverges_says_where_and_keeps_the_last_sound_state(
    silent: Configure, tmp_path: Path, broken: Breaks, sentence: str
) -> None:
    trainer = Trainer(detectron2_config(silent(**SHORT, **{"SOLVER.CHECKPOINT_PERIOD": 1})))
    trainer.register_hooks([broken])
    with pytest.raises(Diverged, match=sentence):
        trainer.train()
    saved = CheckpointFolder(tmp_path / "run" / "checkpoints").newest()
    assert saved is not None and saved.iteration == 2
    assert all(value.isfinite().all() for value in saved.weights.values())


def test_a_run_begins_with_the_weights_that_are_set(silent: Configure, tmp_path: Path) -> None:
    model = build_frozenseg(silent())
    save_weights(model, tmp_path / "start.safetensors")
    cfg = detectron2_config(silent(**{"MODEL.WEIGHTS": str(tmp_path / "start.safetensors")}))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 0
    assert same(trainer.parts.model.trainable_state(), model.trainable_state())


def test_the_numbers_of_both_engines_runs_stand_in_the_same_place(
    silent: Configure, tmp_path: Path
) -> None:
    paths = []
    for name, train in (("native", train_natively), ("detectron2", with_detectron2)):
        folder = tmp_path / name
        train(silent(OUTPUT_DIR=str(folder), **SHORT))
        paths.append(folder / "metrics.jsonl")
    ours, theirs = ([json.loads(line) for line in path.read_text().splitlines()] for path in paths)
    measured = ("seconds_per_iteration", "images_per_second", "data_wait_share", "memory_gib")
    measured += ("eta_seconds",)
    for first, second in zip(ours, theirs, strict=True):
        assert second.keys() == first.keys()
        computed = second.keys() - set(measured)
        assert {n: second[n] for n in computed} == pytest.approx(
            {n: first[n] for n in computed}, rel=1e-4
        )


def test_another_runs_checkpoints_are_not_overwritten(silent: Configure) -> None:
    cfg = silent(**{"SOLVER.MAX_ITER": 1, "SOLVER.STEPS": ()})
    with_detectron2(cfg)
    with pytest.raises(UserError, match="checkpoints of another run"):
        with_detectron2(cfg)


def test_a_seed_that_was_not_fixed_is_kept_when_resuming(silent: Configure) -> None:
    cfg = silent(SEED=-1, **SHORT, **{"SOLVER.CHECKPOINT_PERIOD": 3})
    whole = with_detectron2(cfg)
    last, _ = CheckpointFolder(Path(cfg.OUTPUT_DIR) / "checkpoints").paths()
    shutil.rmtree(last)
    assert_agree(with_detectron2(cfg, resume=True), whole[3:], count=3)


def test_a_checkpoint_of_other_towers_is_refused(silent: Configure) -> None:
    cfg = detectron2_config(silent(**{"SOLVER.MAX_ITER": 1, "SOLVER.STEPS": ()}))
    Trainer(cfg).train()
    other = Trainer(cfg)
    torch.nn.init.normal_(next(other.parts.model.sam.parameters()))
    with pytest.raises(UserError, match="another sam tower"):
        other.resume_or_load(resume=True)


def test_run_trains_evaluates_and_evaluates_again(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = records_of("shapes_val")[:2]
    monkeypatch.setattr("frozenseg.detectron2.loaders.records_of", lambda *_: records)
    cfg = configure(**{"SOLVER.MAX_ITER": 1, "SOLVER.STEPS": ()})
    assert run(cfg) == 0
    folder = Path(cfg.OUTPUT_DIR)
    report = folder / "inference" / "shapes_val" / "metrics.json"
    first = json.loads(report.read_text())
    final = {"MODEL.WEIGHTS": str(folder / "model_final.safetensors")}
    load_weights(build_frozenseg(cfg), final["MODEL.WEIGHTS"])
    for again in (cfg, configure(**final)):
        report.unlink()
        assert run(again, eval_only=True) == 0
        assert json.loads(report.read_text()) == first
    with pytest.raises(UserError, match="checkpoints of another run"):
        run(configure(**{"SOLVER.MAX_ITER": 9}))
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert not list(differences(kept, cfg))  # of the training, in the project's keys
    assert json.loads((folder / "environment.json").read_text())["engine"] == "detectron2"
    text = (folder / "log.txt").read_text()
    assert "engine: detectron2" in text.splitlines()[0]


def test_evaluation_without_weights_is_refused(configure: Configure) -> None:
    with pytest.raises(UserError, match=r"MODEL\.WEIGHTS is empty"):
        run(configure(), eval_only=True)


def test_what_detectron2_does_on_cuda_alone_is_refused_with_what_to_do(
    silent: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"AMP.* MODEL\.DEVICE is cpu: .* --engine native"):
        Trainer(detectron2_config(silent(**{"SOLVER.AMP.ENABLED": True})))
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    with pytest.raises(UserError, match=r"2 processes.* MODEL\.DEVICE is cpu"):
        Trainer(detectron2_config(silent()))


def test_the_loss_scale_is_off_before_the_gradient_is_clipped() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = ClippedAdamW([{"params": [parameter], "lr": 0.1}], clip_norm=1.0)
    scaler = UnscalingScaler("cpu", init_scale=1024.0)
    scaler.scale(parameter.sum() * 3).backward()
    scaler.step(optimizer)
    assert optimizer.grad_norm == 3.0
