"""Work that is killed at random moments: training, evaluation, SAM masks, data preparation.

Each kind of work runs in a child that is forked from this process, so that PyTorch is imported
once. Its folder is laid out by ``prepare``; ``run`` is called again after a kill, as a user repeats
the command.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.fixtures.datasets import script, write_ade20k, write_pascal_voc

TINY_MODEL = (
    "MODEL.DEVICE", "cpu", "MODEL.MASK_FORMER.DEC_LAYERS", "4",
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "6",
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "32", "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1",
    "MODEL.FROZEN_SEG.QUERY_INJECTOR_LAYERS", "(1,)", "MODEL.FROZEN_SEG.FEATURE_INJECTOR_LAYERS",
    "(2,)",
)  # fmt: skip
TINY_TRAINING = (
    "INPUT.IMAGE_SIZE", "64", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "8",
    "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.STEPS", "(6,)",
    "SOLVER.WARMUP_ITERS", "2", "DATASETS.TEST", "()",
)  # fmt: skip
IMAGES, PICTURES = 10, 40
# a log, and what names the machine, the time or the process
UNLIKE = ("log.txt", "environment.json", "code.diff", "tensorboard", ".lock", "console.txt")
TIMES = ("seconds", "time", "eta", "data_time", "per_second", "memory", "data_wait_share")


class Work(NamedTuple):
    """A kind of work.

    Args:
        prepare: lays out what it reads.
        run: does it, or what is left of it; returns the exit status.
        outputs: folder of its results, below the one that both are called with.
        stopped: exit statuses of a run that was asked to stop (SIGTERM).
        share: its part of all kills.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], int]
    outputs: str
    stopped: tuple[int, ...]
    share: float


def _nothing(_: Path) -> None:
    """Reads nothing from the disk."""


def _train(processes: int, workers: int) -> Callable[[Path], int]:
    def run(folder: Path) -> int:
        from frozenseg.cli.train_net import main

        options = ["--engine", "native", "--config-file", "shapes/frozenseg.yaml", "--resume"]
        options += ["--num-gpus", str(processes), "--output", str(folder / "run")]
        return main([*options, *TINY_MODEL, *TINY_TRAINING, "DATALOADER.NUM_WORKERS", str(workers)])

    return run


def command(*line: str) -> int:
    """Runs ``frozenseg`` with these arguments; the exit status."""
    from frozenseg.cli.main import main

    sys.argv = ["frozenseg", *line]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _evaluate(folder: Path) -> int:
    from frozenseg.evaluation.loop import evaluate

    defaults = evaluate.__kwdefaults__
    assert defaults is not None and "block_size" in defaults
    defaults["block_size"] = 4
    small = (
        "INPUT.MIN_SIZE_TEST",
        "64",
        "INPUT.MAX_SIZE_TEST",
        "64",
        "DATALOADER.NUM_WORKERS",
        "0",
    )
    options = ("--limit", "24", "--resume", "--device", "cpu", "--output", str(folder / "report"))
    return command("evaluate", *options, *small)


def _write_images(folder: Path) -> None:
    from frozenseg.data.shapes import ShapesDataset

    (folder / "images").mkdir()
    for index in range(IMAGES):
        pixels = ShapesDataset("val")[index].image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"images/{index}.png")


def _sam_masks(folder: Path) -> int:
    options = ("--model", "shapes", "--device", "cpu", "--output", str(folder / "masks"))
    return command(
        "sam-masks",
        str(folder / "images"),
        *options,
        "--set",
        "MODEL.MASK_ENSEMBLE.POINTS_PER_SIDE=4",
    )


def _write_voc(folder: Path) -> None:
    root = folder / "data"
    write_pascal_voc(root)
    base = root / "VOCdevkit/VOC2012"
    names = [f"2008_{number:06d}" for number in range(PICTURES)]
    for name in names:
        shutil.copyfile(base / "JPEGImages/2007_000033.jpg", base / f"JPEGImages/{name}.jpg")
        shutil.copyfile(
            base / "SegmentationClass/2007_000033.png", base / f"SegmentationClass/{name}.png"
        )
    (base / "ImageSets/Segmentation/val.txt").write_text("\n".join(names))


def _write_ade(folder: Path) -> None:
    root = folder / "data"
    write_ade20k(root)
    base = root / "ADEChallengeData2016"
    for part, suffix in (
        ("images", "jpg"),
        ("annotations", "png"),
        ("annotations_instance", "png"),
    ):
        for number in range(3, PICTURES):
            source = base / f"{part}/validation/ADE_val_00000001.{suffix}"
            shutil.copyfile(source, source.with_stem(f"ADE_val_{number:08d}"))


def _prepare(name: str, processes: int) -> Callable[[Path], int]:
    def run(folder: Path) -> int:
        sys.modules[name] = module = script(name)  # its processes look for it by name
        return module.main(["--root", str(folder / "data"), "--processes", str(processes)])

    return run


ENDED = (-15, 143, 75, 130)  # by the signal itself, or in good order
WORKS = {
    "training, 1 process": Work(_nothing, _train(1, 1), "run", (75,), 3.0),
    "training, 2 processes": Work(_nothing, _train(2, 0), "run", (75,), 1.0),
    "evaluation": Work(_nothing, _evaluate, "report", ENDED, 2.0),
    "SAM masks": Work(_write_images, _sam_masks, "masks", ENDED, 1.5),
    "preparation": Work(_write_voc, _prepare("prepare_pascal_voc", 1), "data", ENDED, 1.0),
    "preparation, 2 processes": Work(_write_ade, _prepare("prepare_ade20k", 2), "data", ENDED, 1.5),
}


def outputs(folder: Path) -> dict[str, Any]:
    """Returns the files of a finished run by path: bytes, or records without their times.

    Of checkpoints, only the last counts: which ones remain before it depends on the kill.
    """
    last = max((path.name for path in folder.glob("checkpoints/*")), default="")
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        is_older = name.startswith("checkpoints/") and not name.startswith(f"checkpoints/{last}")
        if path.is_dir() or is_older or any(part in name for part in UNLIKE):
            continue
        found[name] = _content(path)
    return found


def _content(path: Path) -> Any:
    content = path.read_bytes()
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in content.splitlines()]
    if path.suffix == ".safetensors":  # its library writes the notes in a random order
        size = 8 + int.from_bytes(content[:8], "little")
        return json.loads(content[8:size]), content[size:]
    return content


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if not any(word in key for word in TIMES)}


def import_all() -> None:
    """Imports what the works need; nothing is computed, so that forks are safe."""
    import torch
    import torch.utils.tensorboard

    import frozenseg.cli.main
    import frozenseg.cli.native_run
    import frozenseg.cli.train_net
    import frozenseg.data.shapes
    import frozenseg.sam_masks.bulk
    import frozenseg.towers.loading

    torch.set_num_threads(1)
    assert frozenseg and np and os
