#!/usr/bin/env python
"""Time and memory of the stages of FrozenSeg, each beside a baseline with the same result.

    OMP_NUM_THREADS=1 python tools/benchmark.py
    python tools/benchmark.py --stage transformer-decoder --size 512x704 --json speed.json
    python tools/benchmark.py --sizes 512x512 1024x1024 1536x1536
    python tools/benchmark.py --batches 1 2 4

The sizes are those of the published model (ConvNeXt-L, SAM ViT-B) with random weights; nothing is
downloaded. Baselines are kept here: segment_anything's eager attention and mask generator, the
deformable attention's PyTorch definition, predictions of every layer, masks and class maps at full
size. ``whole-image`` is the model with all of them against the model as it is. Both ways run in
turn in one process. CPU seconds are summed over threads; compare them with one thread, as waiting
threads count too. ``frozenseg benchmark`` measures whole models of any configuration instead,
without baselines.

``--sizes`` and ``--batches`` show how the cost grows with the image, and with the images that share
a forward pass: one run of each stage as it is shipped. SAM's images have one size, and
post-processing takes one image at a time.

A stage is a function in ``tools/benchmarks/`` and a line in STAGES. Beside these, the folder has
scripts of their own: evaluators, OVSeg's crops, deformable attention, vocabulary, training step,
and post-processing against image size, classes and queries.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.decoders import pixel_decoder, transformer_decoder
from benchmarks.frame import (
    Figures,
    Stage,
    growth_table,
    measure,
    record,
    shipped_alone,
    table,
)
from benchmarks.post_processing import semantic, three_tasks
from benchmarks.sam_masks import sam_masks
from benchmarks.towers import clip_encoder, sam_encoder
from benchmarks.whole_image import whole_image
from rich.console import Console
from rich.table import Table

from frozenseg.io.files import atomic_write
from frozenseg.ops.maps import Size, padded_size

STRIDE = 32  # sides of images are padded to multiples of this, pixels
STAGES: dict[str, Callable[[Size], Stage]] = {
    "sam-encoder": sam_encoder,
    "clip-encoder": clip_encoder,
    "pixel-decoder": pixel_decoder,
    "transformer-decoder": transformer_decoder,
    "three-tasks": three_tasks,
    "semantic": semantic,
    "sam-masks": sam_masks,
    "whole-image": whole_image,
}
FIXED = {"sam-encoder", "sam-masks"}  # SAM resizes every image to its own size
BATCHED: dict[str, Callable[[Size, int], Stage]] = {
    "sam-encoder": sam_encoder,
    "clip-encoder": clip_encoder,
    "pixel-decoder": pixel_decoder,
    "transformer-decoder": transformer_decoder,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=STAGES, action="append", help="default: all")
    parser.add_argument("--size", type=_size, default=(800, 1066), metavar="HEIGHTxWIDTH")
    parser.add_argument("--sizes", type=_size, nargs="+", metavar="HEIGHTxWIDTH")
    parser.add_argument("--batches", type=int, nargs="+", metavar="IMAGES")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args()
    if options.json and (options.sizes or options.batches):
        parser.error("--json stores comparisons with a baseline: leave out --sizes and --batches")
    if options.batches and not set(options.stage or BATCHED) <= BATCHED.keys():
        parser.error(f"--batches needs stages that take several images: {', '.join(BATCHED)}")
    if options.sizes or options.batches:
        Console().print(_growth(options))
        return
    size = padded_size([options.size], STRIDE)
    figures: list[Figures] = []
    for name in options.stage or STAGES:
        torch.manual_seed(0)
        figures.append(measure(STAGES[name](size), options.repeats))
    Console().print(table(figures))
    if options.json is not None:
        with atomic_write(options.json) as part:
            part.write_text(json.dumps(record(figures), indent=1))


def _growth(options: argparse.Namespace) -> Table:
    """Returns what each stage costs at each size, or with each number of images of one size."""
    makers: Mapping[str, Callable[..., Stage]]
    points: list[tuple[Any, ...]]
    if options.sizes:
        titles = [f"{height} x {width}" for height, width in options.sizes]
        points = [(padded_size([size], STRIDE),) for size in options.sizes]
        makers, default = STAGES, [name for name in STAGES if name not in FIXED]
    else:
        titles = [f"batch of {number}" for number in options.batches]
        points = [(padded_size([options.size], STRIDE), number) for number in options.batches]
        makers, default = BATCHED, list(BATCHED)
    rows = {
        name: [shipped_alone(makers[name](*point)) for point in points]
        for name in options.stage or default
    }
    return growth_table(titles, rows)


def _size(text: str) -> Size:
    height, width = map(int, text.split("x"))
    return height, width


if __name__ == "__main__":
    main()
