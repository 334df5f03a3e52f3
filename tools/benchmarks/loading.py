#!/usr/bin/env python
"""How long loading a model takes beside reading the bytes of its weights, and its peak memory.

    python tools/benchmarks/loading.py
    python tools/benchmarks/loading.py --model fcclip-convnext-large --repeats 5

Writes CLIP, SAM and the head with random weights to files of the published kinds (safetensors, a
`.pth`, safetensors) in a temporary folder. Reading and loading take turns, each in a process of
its own, first with the files out of the system's cache, then with them in it. Imports and text
rows are not counted: loading ends with a model that is ready for its first image.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from frame import Way, run_once
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_model

from frozenseg import model_config
from frozenseg.builders.clips import clip_keys, with_random_towers
from frozenseg.builders.frozenseg import build_frozenseg
from frozenseg.builders.segmenter import build_segmenter
from frozenseg.checkpoint.weights import save_weights
from frozenseg.towers.clip import ClipTower

CLIP, SAM, HEAD = "clip.safetensors", "sam.pth", "head.safetensors"
CHUNK_BYTES = 1 << 24
MIB = 1 << 20


def write_files(model: str, folder: Path) -> None:
    """Writes random weights of a model's towers, and a head that was trained with them."""
    random = build_frozenseg(with_random_towers(model_config(model)))
    assert isinstance(random.backbone, ClipTower), "the published backbones are CLIP's"
    save_model(random.backbone.model, str(folder / CLIP))
    if random.sam is not None:
        torch.save(random.sam.model.state_dict(), folder / SAM)
    save_weights(random, folder / HEAD)


def read(_model: str, folder: Path) -> None:
    """Reads all bytes of the weights."""
    buffer = bytearray(CHUNK_BYTES)
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def load(model: str, folder: Path) -> object:
    """Loads a segmenter, which is returned so that it is held."""
    cfg = model_config(model, device="cpu", weights=folder / HEAD)
    cfg.defrost()
    clip_keys(cfg).CLIP_PRETRAINED_WEIGHTS = str(folder / CLIP)
    cfg.MODEL.SAM_WEIGHTS = str(folder / SAM)
    return build_segmenter(cfg)


WAYS: dict[str, Callable[[str, Path], object]] = {"reading": read, "loading": load}


def run_apart(way: str, model: str, folder: Path, *, cold: bool) -> Way:
    """Runs one way in a new process, after the files left the cache or entered it."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            if cold:
                os.fsync(file.fileno())  # only what is on the disk can leave the cache
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.read(CHUNK_BYTES):
                    pass
    command = [sys.executable, __file__, "--model", model, "--folder", str(folder), "--only", way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Way(*json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="frozenseg-convnext-large")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        way = WAYS[options.only]
        print(json.dumps(run_once(lambda: way(options.model, options.folder))[1]))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_files(options.model, folder)
        size = sum(path.stat().st_size for path in folder.iterdir()) / MIB
        table = Table(
            f"{options.model}, {size:,.0f} MiB", "wall s", "CPU s", "peak, of the weights"
        )
        for cold in (True, False):
            runs: dict[str, list[Way]] = {way: [] for way in WAYS}
            for _ in range(options.repeats):
                for way, found in runs.items():
                    found.append(run_apart(way, options.model, folder, cold=cold))
            for way, found in runs.items():
                cpu, wall, peak = (statistics.median(each) for each in zip(*found, strict=True))
                title = f"{way}, {'not cached' if cold else 'cached'}"
                table.add_row(title, f"{wall:.2f}", f"{cpu:.2f}", f"{peak / size:.2f} x")
    Console().print(table)


if __name__ == "__main__":
    main()
