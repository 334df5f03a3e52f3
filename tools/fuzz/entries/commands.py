"""Command lines: every subcommand, and the training script."""

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from tools.fuzz.case import Case, Entry
from tools.fuzz.entries.configuration import DEVICES, ODD_SETTINGS, key_names
from tools.fuzz.entries.images import encoded, image_bytes
from tools.fuzz.entries.preparation import check_status
from tools.fuzz.entries.vocabulary import text
from tools.fuzz.mutate import ODD_TEXTS

COMMANDS = (
    "segment", "demo", "evaluate", "train", "doctor", "sam-masks", "benchmark", "convert",
    "summary", "datasets", "figure", "vocabulary",
)  # fmt: skip
OPTIONS = (
    "--words", "-w", "--vocabulary", "-v", "--stuff", "--task", "--model", "--weights", "--device",
    "--output", "-o", "--set", "--json", "--dataset",
    "--resume", "--limit", "--skip-bad", "--processes", "--part", "--sam", "--sam-weights",
    "--draw", "--root", "--config", "--to", "--help", "--num-gpus",
    "--nothing", "-x", "--", "--debug",
)  # fmt: skip
# nothing that computes for long may be asked for by accident
QUICK_SET = ("--set", "INPUT.MIN_SIZE_TEST=64", "--set", "INPUT.MAX_SIZE_TEST=128")
IMAGE = "image.png"


def _argument(rng: Random) -> str:
    values = (
        IMAGE, IMAGE, "words.txt", "case.yaml", "folder", "missing.png", "shapes", "shapes_val",
        "panoptic", "cpu", "1", "0", "-1", "2/3", "a;b", "coco_panoptic",
        "vit_b", "openvocab_lvis_v1_val", *ODD_TEXTS,
    )  # fmt: skip
    # the operating system allows neither in an argument
    return rng.choice(values).replace("\0", "").encode("utf-8", "replace").decode()


def _segment(rng: Random) -> list[str]:
    words = text(rng).replace("\0", "").encode("utf-8", "replace").decode()
    line = ["segment", rng.choice((IMAGE, IMAGE, IMAGE, "folder", _argument(rng)))]
    line += [rng.choice(("-w", "--stuff", "-v")), rng.choice((words, "red circle; sand [stuff]"))]
    extras = (
        [], ["--task", "semantic"], ["--task", "instance"], ["--json"], ["--device",
        rng.choice(DEVICES[:-2])], ["-o", _argument(rng)], ["--weights", _argument(rng)],
        ["--model", _argument(rng)], ["--set",
        f"{rng.choice(key_names())}={rng.choice(ODD_SETTINGS)}".replace("\0", "")],
    )  # fmt: skip
    return [*line, *rng.choice(extras), *rng.choice(extras), *QUICK_SET]


def _lines(rng: Random) -> list[str]:
    odd = _argument(rng)
    pair = [rng.choice(key_names()), rng.choice(ODD_SETTINGS).replace("\0", "")]
    return rng.choice(
        (
            [
                "evaluate",
                "--limit",
                rng.choice(("0", "-1", "x", "1")),
                "--dataset",
                rng.choice(("shapes", odd)),
                *QUICK_SET[1:2],
            ],
            ["evaluate", "--weights", odd, "--limit", "1"],
            [
                "sam-masks",
                rng.choice((IMAGE, odd, "folder")),
                "--model",
                "shapes",
                "--set",
                "MODEL.MASK_ENSEMBLE.POINTS_PER_SIDE=2",
                "-o",
                "masks",
            ],
            ["sam-masks", IMAGE, "--part", odd],
            ["sam-masks", "--dataset", odd],
            ["convert", odd, "out.pth", "--config", "shapes/frozenseg.yaml"],
            ["convert", "words.txt", odd, "--config", rng.choice(("shapes/frozenseg.yaml", odd))],
            ["weights", rng.choice(("check", "get")), odd, "--file", IMAGE],
            ["mine", rng.choice(("words.txt", odd)), "folder", "-o", "pairs", "--clip", "shapes"],
            ["adapt-clip", rng.choice(("image", "prompts", odd)), "words.txt", "-o", "run"],
            ["export", "--model", odd, "-o", "exported"],
            ["reproduce", rng.choice(("table4", odd)), "--weights", odd],
            ["datasets", "convert", rng.choice(("folder", odd)), "-o", rng.choice((odd, "a.yaml"))],
            ["datasets", "prepare", odd],
            ["web", "--host", rng.choice(("256.1.1.1", "a..b", "\u202e")), "--port", "70000"],
            ["summary", odd],
            ["summary", "shapes"],
            ["datasets", "check", odd],
            ["datasets", "list", "--root", odd],
            ["datasets", "show", odd],
            ["vocabulary", odd],
            ["vocabulary", "show", odd],
            ["vocabulary", "list"],
            ["figure", rng.choice(("compare", "attention", "clusters", "diagnosis", odd)), odd],
            ["train", rng.choice(("case.yaml", odd))],
            ["train", "shapes", *pair[:1]],
            ["train", "shapes", "SOLVER.MAX_ITER", "-1", *pair],
            ["train_net", "--dump-config", *pair],
            ["train_net", "--config-file", odd, "--dump-config"],
            [
                "train_net",
                "--eval-only",
                "--engine",
                "native",
                "--output",
                "run",
                "MODEL.WEIGHTS",
                odd,
            ],
            ["train_net", "--num-gpus", rng.choice(("0", "-1", "x", "99")), "MODEL.DEVICE", "cuda"],
            [
                "train_net",
                "--dist-url",
                odd,
                "--num-machines",
                "2",
                "--machine-rank",
                rng.choice(("0", "7")),
            ],
        )
    )


def _make(rng: Random) -> Case:
    roll = rng.random()
    if roll < 0.35:
        line = _segment(rng)
    elif roll < 0.85:
        line = _lines(rng)
    else:
        count = rng.randrange(4)
        line = [
            rng.choice(COMMANDS[:1] + COMMANDS[5:6] + COMMANDS[7:]),
            *(rng.choice((rng.choice(OPTIONS), _argument(rng))) for _ in range(count)),
        ]
    files = {
        IMAGE: encoded(rng) if rng.random() < 0.6 else image_bytes(rng),
        "words.txt": b"red circle\nsand [stuff]\n",
        "case.yaml": rng.choice((b"", b"SEED: 1\n", b"SEED: x\n", b"[", b"_BASE_: case.yaml\n")),
        "folder/a.png": encoded(rng),
    }
    return Case("commands", {"line": line}, files)


def run_command(line: Sequence[str]) -> int:
    """Runs a command in this process; 0, 2 with one sentence, or 1 of ``datasets check``.

    ``segment`` and ``sam-masks`` print one for each faulty image.
    """
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = _status(line)
    many, checks = line[0] in ("segment", "sam-masks"), list(line[:2]) == ["datasets", "check"]
    items = max(1, len(line) - 1) if many else 1
    check_status(status, said.getvalue(), items=items, checks=checks)
    return status


def _status(line: Sequence[str]) -> int:
    from frozenseg.cli import main, train_net

    try:
        if line[0] == "train_net":
            return train_net.main([*line[1:]])
        with patch.object(sys, "argv", ["frozenseg", *line]):
            main.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def _run(arguments: Any, _: Path) -> None:
    run_command(arguments["line"])


ENTRIES = (Entry("commands", _make, _run, 1.5),)
