"""The command line of ``train_net.py``: Detectron2's flags, for both engines."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fvcore.common.config import CfgNode

from frozenseg.config import load_config
from frozenseg.errors import UserError
from frozenseg.io.text import one_line
from frozenseg.runtime.launch import USER_ERROR_EXIT_CODE, Group, launch
from frozenseg.runtime.memory import ADVICE, memory_gate
from frozenseg.runtime.signals import INTERRUPTED, INTERRUPTED_EXIT_CODE, REQUEUE_EXIT_CODE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 after the sentence of a user's mistake."""
    options = build_parser().parse_args(arguments)
    try:
        cfg = _load(options)
        if options.dump_config:
            sys.stdout.write(cfg.dump())
            return 0
        engine = choose_engine(options.engine)
        group = Group(
            num_gpus=options.num_gpus,
            num_machines=options.num_machines,
            machine_rank=options.machine_rank,
            dist_url=options.dist_url,
        )
        return launch(_run, (engine, cfg, options), group=group, device=_device_kind(cfg))
    except UserError as error:
        sys.stderr.write(f"error: {one_line(error)}\n")
        return USER_ERROR_EXIT_CODE
    except KeyboardInterrupt:
        sys.stderr.write(f"{INTERRUPTED}\n")
        return INTERRUPTED_EXIT_CODE


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train or evaluate a model from its configuration.",
        epilog=f"Exit status {REQUEUE_EXIT_CODE}: the run was asked to stop (SIGTERM, SIGUSR1, "
        "Ctrl-C) and has saved a checkpoint; the same command with --resume continues it.",
    )
    add = parser.add_argument
    add("--config-file", metavar="FILE", help="YAML file; without one, all keys have defaults")
    add(
        "--engine",
        choices=("auto", "detectron2", "native"),
        default="auto",
        help="auto (default): Detectron2 if it is installed, else native",
    )
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, or the last checkpoint")
    add("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    add(
        "--skip-bad",
        action="store_true",
        help="native engine: leave out images with a missing or damaged file and list them",
    )
    add(
        "--save-predictions",
        type=Path,
        metavar="DIR",
        help="native engine, with --eval-only: write predictions in the data set's official format",
    )
    add("--output", metavar="DIR", help="sets OUTPUT_DIR")
    add(
        "--accumulate",
        type=int,
        default=1,
        metavar="N",
        help="native engine: process each batch in N parts, for fewer GPUs than in the recipe",
    )
    add("--num-gpus", type=int, default=1, metavar="N", help="processes per machine (default 1)")
    add("--num-machines", type=int, default=1, metavar="N", help="number of machines (default 1)")
    add("--machine-rank", type=int, default=0, metavar="N", help="which machine this is, from 0")
    add("--dist-url", default="auto", metavar="URL", help="tcp://FIRST_MACHINE:PORT")
    add("--wandb", metavar="PROJECT", help="native engine: also send metrics to Weights & Biases")
    add("--dump-config", action="store_true", help="print the complete configuration and exit")
    add(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys to override"
    )
    return parser


def choose_engine(wanted: str) -> str:
    """Returns the engine of an option; ``auto`` is Detectron2 if it can be imported."""
    if wanted != "auto":
        return wanted
    return "native" if find_spec("detectron2") is None else "detectron2"


def _load(options: argparse.Namespace) -> CfgNode:
    output = [] if options.output is None else ["OUTPUT_DIR", options.output]
    late = next((opt for opt in options.opts if opt.startswith("--")), None)
    if late is not None:
        raise UserError(f"{late} comes after KEY VALUE pairs: write all options before them")
    if options.save_predictions is not None and not options.eval_only:
        raise UserError("--save-predictions needs --eval-only: add it")
    path = None if options.config_file is None else Path(options.config_file)
    return load_config(path, [*options.opts, *output])


def _run(engine: str, cfg: CfgNode, options: argparse.Namespace) -> int:
    """Runs one process of the run."""
    with memory_gate("the run", advice=ADVICE):
        if engine == "detectron2":
            return _run_detectron2(cfg, options)
        return _run_natively(cfg, options)


def _run_natively(cfg: CfgNode, options: argparse.Namespace) -> int:
    from frozenseg.builders.options import RunOptions
    from frozenseg.cli.native_run import run

    return run(
        cfg,
        RunOptions(
            resume=options.resume,
            eval_only=options.eval_only,
            accumulate=options.accumulate,
            wandb_project=options.wandb,
            skip_bad=options.skip_bad,
            save_predictions=options.save_predictions,
        ),
    )


def _run_detectron2(cfg: CfgNode, options: argparse.Namespace) -> int:
    native = {
        "--accumulate": options.accumulate != 1,
        "--wandb": options.wandb is not None,
        "--skip-bad": options.skip_bad,
        "--save-predictions": options.save_predictions is not None,
    }
    for option, given in native.items():
        if given:
            raise UserError(
                f"{option} needs the native engine: leave it out, or pass --engine native"
            )
    from frozenseg.detectron2.run import run

    return run(cfg, resume=options.resume, eval_only=options.eval_only)


def _device_kind(cfg: CfgNode) -> str:
    """Returns ``cpu`` or ``cuda``, which decides how processes communicate."""
    from frozenseg.runtime.devices import choose_device

    return choose_device(cfg.MODEL.DEVICE).type
