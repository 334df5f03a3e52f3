"""Files that a run writes and reads again: blocks, checkpoints, metrics, configuration."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.mutate import damaged_bytes, damaged_json, edit_file, edits, json_bytes

ODD_BLOCKS = ("empty", "pickle", "shape", "nan", "dtype", "missing", "folder", "text", "other keys")


def _make_block(rng: Random) -> Case:
    target = rng.choice(("000000.npz", "000001.npz", "000001.npz", "key.json"))
    arguments: dict[str, Any] = {"target": target, "kind": None, "edits": edits(rng, 1500)}
    if rng.random() < 0.3 and target != "key.json":
        arguments |= {"kind": rng.choice(ODD_BLOCKS), "edits": []}
    elif rng.random() < 0.3:
        arguments |= {"kind": "text", "edits": []}
    return Case("evaluation_blocks", arguments)


class _Samples:
    """Six grey images with label maps of their own."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        from frozenseg.structures import Sample

        image = torch.full((3, 4, 6), index, dtype=torch.uint8)
        labels = torch.arange(24).reshape(4, 6) % (index + 2)
        return Sample(image=image, image_id=index, file_name="", semantic=labels)


class _Pixels:
    """An evaluator that counts pairs of predicted and annotated classes."""

    def __init__(self) -> None:
        self.counts = np.zeros((8, 8), dtype=np.int64)

    def process(self, result: Any, sample: Any) -> None:
        np.add.at(self.counts, (result.semantic.numpy(), sample.semantic.numpy()), 1)

    def evaluate(self) -> dict[str, float]:
        return {f"{row}/{column}": float(n) for (row, column), n in np.ndenumerate(self.counts)}

    def per_class(self) -> list:
        return []

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"confusion": self.counts}

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        found = other["confusion"]
        if found.shape != (8, 8) or found.dtype != np.int64:
            raise ValueError(f"counts of {found.shape}, {found.dtype}")
        self.counts += found


def evaluated(folder: Path, *, resume: bool, stop_after: int | None = None) -> Any:
    """The report of a small evaluation, or a run that is interrupted after some images."""
    from frozenseg.evaluation.evaluators import EvaluatorSpec
    from frozenseg.evaluation.loop import evaluate
    from frozenseg.structures import Result

    seen: list[int] = []

    def predict(images: Sequence[Any], *_: Any) -> list[Any]:
        if stop_after is not None and len(seen) >= stop_after:
            raise KeyboardInterrupt
        seen.extend(range(len(images)))
        pixels = images[0].pixels if hasattr(images[0], "pixels") else images[0]
        draw = torch.Generator().manual_seed(int(pixels.max()))
        return [Result(semantic=torch.randint(8, (4, 6), generator=draw)) for _ in images]

    spec = EvaluatorSpec("pixels", _Pixels, _Pixels.process)
    return evaluate(
        _Samples(),
        prepare=lambda sample: sample.image,
        predict=predict,
        evaluators=[spec],
        folder=folder,
        key="one key",
        resume=resume,
        block_size=2,
    )


def _run_block(arguments: Any, folder: Path) -> None:
    expected = evaluated(folder / "whole", resume=False)
    with suppress(KeyboardInterrupt):
        evaluated(folder / "run", resume=False, stop_after=4)
    found = list((folder / "run").rglob(arguments["target"]))
    if found:
        _damage_block(found[0], arguments)
    report = evaluated(folder / "run", resume=True)
    if json.dumps(report.metrics) != json.dumps(expected.metrics):
        raise WrongResult("a damaged block changes the report")
    left = [path for path in (folder / "run").rglob("*") if path.is_file()]
    if left:
        raise WrongResult(f"{left[0].name} is left after the evaluation")


def _damage_block(path: Path, arguments: Any) -> None:
    kind = arguments["kind"]
    if kind is None:
        edit_file(path, arguments["edits"])
        return
    if kind in ("text", "empty"):
        path.write_text("no block" if kind == "text" else "")
        return
    path.unlink()
    if kind == "folder":
        path.mkdir()
        return
    arrays: dict[str, Any] = {
        "pickle": {"pixels/confusion": np.array([{}], dtype=object)},
        "shape": {
            "pixels/confusion": np.zeros((3, 3), np.int64),
            "skipped": np.array([], np.str_),
        },
        "nan": {"pixels/confusion": np.full((8, 8), np.nan), "skipped": np.array([], np.str_)},
        "dtype": {"pixels/confusion": np.array([["a"] * 8] * 8), "skipped": np.array([1.0])},
        "missing": {"skipped": np.array([], np.str_)},
        "other keys": {"a": np.zeros(3)},
    }[kind]
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _make_checkpoint(rng: Random) -> Case:
    target = rng.choice(
        ("weights.safetensors", "weights.safetensors", "training.safetensors", "last_checkpoint")
    )
    kind = rng.choice(("edits", "edits", "edits", "missing", "empty", "swapped", "folder"))
    return Case("checkpoints", {"target": target, "kind": kind, "edits": edits(rng, 900)})


def checkpoint(iteration: int) -> Any:
    from frozenseg.training.checkpoints import Checkpoint

    draw = torch.Generator().manual_seed(iteration)
    return Checkpoint(
        iteration=iteration,
        weights={
            "a.weight": torch.randn(4, 5, generator=draw),
            "a.bias": torch.randn(4, generator=draw),
        },
        about={"clip": "f", "seed": "1"},
        training={"optimizer/a.weight/exp_avg": torch.randn(4, 5, generator=draw)},
        numbers={"samples_seen": 4 * iteration, "num_processes": 1},
    )


def _run_checkpoint(arguments: Any, folder: Path) -> None:
    from frozenseg.training.checkpoints import CheckpointFolder

    checkpoints = CheckpointFolder(folder / "checkpoints")
    paths = [checkpoints.save(checkpoint(iteration)) for iteration in (1, 2)]
    target = paths[1] / arguments["target"]
    target = target if target.exists() else folder / arguments["target"]
    changed = _damage_checkpoint(target, paths[0], arguments)
    newest = checkpoints.newest()
    if newest is None:
        raise WrongResult("neither checkpoint is read, although one is sound")
    if not _same(newest, checkpoint(newest.iteration)):
        raise WrongResult("a damaged checkpoint is used")
    if not changed and newest.iteration != 2:
        raise WrongResult("a sound checkpoint is passed over")


def _damage_checkpoint(target: Path, before: Path, arguments: Any) -> bool:
    if arguments["kind"] == "edits":
        return edit_file(target, arguments["edits"])
    if arguments["kind"] == "empty":
        target.write_bytes(b"")
    elif arguments["kind"] == "swapped" and (before / target.name).exists():
        shutil.copyfile(before / target.name, target)
    else:
        target.unlink()
        if arguments["kind"] == "folder":
            target.mkdir()
    return True


def _same(one: Any, other: Any) -> bool:
    tensors = all(
        mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
        for mine, theirs in ((one.weights, other.weights), (one.training, other.training))
    )
    return tensors and dict(one.numbers) == dict(other.numbers)


def _make_run_folder(rng: Random) -> Case:
    if rng.random() < 0.6:
        lines = [{"iteration": n, "loss": 1.0 / n, "lr": 1e-4} for n in range(1, 9)]
        damaged = damaged_json(rng, lines, times=rng.choice((1, 2)))
        rows = damaged if isinstance(damaged, list) else [damaged]
        content = b"\n".join(json_bytes(rng, row) for row in rows)
        content = damaged_bytes(rng, content) if rng.random() < 0.5 else content
        return Case("run_folders", {"use": "metrics"}, {"metrics.jsonl": content})
    text = rng.choice(
        ("", "SEED: 1\n", "[", "- a\n", "7", "null", "a: &a [*a]", "MODEL:\n  DEVICE: cpu\n")
    )
    return Case(
        "run_folders", {"use": "config"}, {"config.yaml": damaged_bytes(rng, text.encode())}
    )


def _run_run_folder(arguments: Any, folder: Path) -> None:
    from frozenseg.config import load_config
    from frozenseg.runtime.run_folder import describe_run
    from frozenseg.training.metric_writers import JsonLines

    if arguments["use"] == "config":
        describe_run(folder, load_config().dump(), engine="native", resumed=True)
        return
    writer = JsonLines(folder / "metrics.jsonl", resume_at=5)
    writer.write(6, {"loss": 0.5})
    writer.close()
    last = (folder / "metrics.jsonl").read_text(encoding="utf8").splitlines()[-1]
    if json.loads(last)["loss"] != 0.5:
        raise WrongResult("the last line is not the one that was written")


Make = Callable[[Random], Case]
ENTRIES = (
    Entry("evaluation_blocks", _make_block, _run_block, 1.5),
    Entry("checkpoints", _make_checkpoint, _run_checkpoint, 2.0),
    Entry("run_folders", _make_run_folder, _run_run_folder, 1.0),
)
