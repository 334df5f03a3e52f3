#!/usr/bin/env python
"""Times post-processing in tiles against ``unfused.py``, which holds every mask at full size.

    OMP_NUM_THREADS=1 PYTHONPATH=tools python -m benchmarks.post_processing --plot FILE.png

Inputs are masks at stride 4 with classes. *scenes*: what the shipped model proposes for a mosaic of
nine scenes. *noise*: what random weights give, masks and classes that are nearly the same for all
queries, so that hardly a query can be left out. Both paths run in turn in one process; seconds are
the processor's. Memory is the growth of the process above its inputs, results included (Linux).
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

import frozenseg
from benchmarks.frame import Stage, share_of_others
from benchmarks.unfused import unfused_outputs
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.ops.maps import Size, size_of
from frozenseg.pipeline.model import ClassProbs
from frozenseg.structures import Frame, InputImage, Proposals, Result

MODEL_SIZE = (800, 1066)  # of the image that the model sees
SCENES = 9  # in the mosaic, three in a row
TASKS = {
    "three tasks": OutputSettings(),
    "semantic": OutputSettings(panoptic=False, instance=False),
    "panoptic": OutputSettings(semantic=False, instance=False),
}
ROWS = (  # task, classes, output size, with the baseline
    ("three tasks", 150, (800, 1066), True),
    ("semantic", 847, (800, 1066), True),
    ("panoptic", 150, (1600, 2133), False),
    ("semantic", 847, (3000, 4000), False),
    ("three tasks", 150, (3000, 4000), False),
)
SIDES, CLASSES, QUERIES = (512, 1024, 1536, 2048), (20, 150, 847, 3000, 10000), (50, 100, 250, 500)


class Inputs(NamedTuple):
    """Masks of an image and their (Q, K + 1) classes."""

    proposals: Proposals
    class_probs: Tensor


class Cost(NamedTuple):
    seconds: float
    gigabytes: float


def noise(num_queries: int, num_classes: int, image_size: Size = MODEL_SIZE) -> Inputs:
    """Masks and classes with the statistics of a ConvNeXt-L model with random weights."""
    draw = torch.Generator().manual_seed(0)
    frame = _frame(image_size)
    cells = (frame.size[0] // 4, frame.size[1] // 4)
    shared = 0.56 * torch.randn(1, *cells, generator=draw) - 0.5
    own = 0.04 * torch.randn(num_queries, 1, 1, generator=draw)
    classes = 0.3 * torch.randn(1, num_classes + 1, generator=draw)
    classes = classes + 0.02 * torch.randn(num_queries, num_classes + 1, generator=draw)
    classes[:, -1] = -10.0
    return Inputs(Proposals(shared + own, frame), classes.softmax(dim=-1))


def scenes(num_queries: int, num_classes: int, image_size: Size = MODEL_SIZE) -> Inputs:
    """The shipped model's masks, each scene in its place; further classes get no probability."""
    logits, probs = _mosaic()
    order = torch.arange(num_queries) * 7 % len(logits)  # of every scene
    frame = _frame(image_size)
    masks = F.interpolate(logits[order][None], [side // 4 for side in frame.size])[0]
    classes = torch.zeros(num_queries, num_classes + 1)
    kept = min(num_classes, probs.shape[1] - 1)
    classes[:, :kept], classes[:, -1] = probs[order, :kept], probs[order, -1]
    return Inputs(Proposals(masks, frame), classes)


def _mosaic(cache: list[tuple[Tensor, Tensor]] = []) -> tuple[Tensor, Tensor]:  # noqa: B006
    if not cache:
        segmenter = frozenseg.load("shapes", device="cpu")
        predictor = segmenter.build_predictor(shapes_vocabulary("val"))
        masks, classes = [], []
        for index in range(SCENES):
            pixels = ShapesDataset("val")[index].image
            image = InputImage(pixels.float(), pixels, size_of(pixels))
            (found,) = cast(Predictor, predictor).propose([image])
            row, column = divmod(index, 3)
            side = found.mask_logits.shape[-1]
            edges = (column * side, (2 - column) * side, row * side, (2 - row) * side)
            masks.append(F.pad(found.mask_logits, edges, value=-20.0))
            classes.append(cast(Predictor, predictor).class_probs(image, found).general)
        cache.append((torch.cat(masks), torch.cat(classes)))
    return cache[0]


def _frame(image_size: Size) -> Frame:
    height, width = (-(-side // 32) * 32 for side in image_size)
    return Frame((height, width), image_size)


def tiled(settings: OutputSettings, inputs: Inputs, size: Size) -> Result:
    is_thing = torch.arange(inputs.class_probs.shape[1] - 1) % 3 > 0
    model = SimpleNamespace(eval=lambda: None)
    predictor = Predictor(
        model=cast(Any, model),
        text=cast(Any, None),
        is_thing=is_thing,
        seen=is_thing,
        settings=settings,
    )
    pixels = torch.zeros(3, 1, 1)
    probs = ClassProbs(inputs.class_probs, inputs.class_probs)
    return predictor.outputs(InputImage(pixels, pixels, size), inputs.proposals, probs)


def unfused(settings: OutputSettings, inputs: Inputs, size: Size) -> Result:
    is_thing = torch.arange(inputs.class_probs.shape[1] - 1) % 3 > 0
    return unfused_outputs(settings, inputs.proposals, inputs.class_probs, is_thing, size)


def three_tasks(image_size: Size) -> Stage:
    """All outputs for 150 classes, from masks and classes that are nearly the same."""
    return _stage("post-processing, three tasks, 150 classes", "three tasks", 150, image_size)


def semantic(image_size: Size) -> Stage:
    """Semantic output alone for 847 classes (A-847)."""
    return _stage("post-processing, semantic, 847 classes", "semantic", 847, image_size)


def _stage(name: str, task: str, num_classes: int, size: Size) -> Stage:
    settings, inputs = TASKS[task], noise(250, num_classes, size)
    return Stage(
        name,
        "whole maps",
        lambda: label_maps(unfused(settings, inputs, size)),
        lambda: label_maps(tiled(settings, inputs, size)),
        share_of_others,
    )


def label_maps(result: Result) -> Tensor:
    """Returns the semantic class, and with panoptic output that of the segment, at each pixel."""
    assert result.semantic is not None, "every measured task but one asks for it"
    if result.panoptic is None:
        return result.semantic
    classes = torch.tensor([-1, *(each.class_id for each in result.panoptic.segments)])
    return torch.stack([result.semantic, classes[result.panoptic.ids.long()]])


def measure(run: Callable[[], object]) -> Cost:
    """Returns the processor's seconds, and the growth of the process."""
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    start = time.process_time()
    run()
    return Cost(time.process_time() - start, _memory("VmHWM") - before)


def _memory(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 2**20


def compare(repeats: int, *, baseline: bool) -> list[dict[str, object]]:
    """Measures the rows of ``ROWS`` for both inputs; the best of ``repeats`` runs."""
    rows = []
    for name, make in (("scenes", scenes), ("noise", noise)):
        for task, num_classes, size, has_baseline in ROWS:
            inputs, costs = make(250, num_classes), []
            old = []
            for _ in range(repeats):
                costs.append(measure(lambda: tiled(TASKS[task], inputs, size)))  # noqa: B023
                if baseline and has_baseline:
                    old.append(measure(lambda: unfused(TASKS[task], inputs, size)))  # noqa: B023
            row = {"input": name, "task": task, "classes": num_classes, "output": size}
            row |= {"tiled": min(costs), "unfused": min(old) if old else None}
            rows.append(row)
    return rows


def scale() -> dict[str, list[tuple[int, float, float]]]:
    """Measures three tasks on scenes against one size at a time: (value, seconds, gigabytes)."""
    runs = {
        "side of a square image, pixels": [(s, scenes(250, 150, (s, s)), (s, s)) for s in SIDES],
        "classes": [(k, scenes(250, k), MODEL_SIZE) for k in CLASSES],
        "queries": [(q, scenes(q, 150), MODEL_SIZE) for q in QUERIES],
    }
    found: dict[str, list[tuple[int, float, float]]] = {}
    for name, cases in runs.items():
        found[name] = []
        for value, inputs, size in cases:
            cost = measure(lambda: tiled(TASKS["three tasks"], inputs, size))  # noqa: B023
            found[name].append((value, cost.seconds, cost.gigabytes))
    return found


def plot(found: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, (name, rows) in zip(axes, found.items(), strict=True):
        values, seconds, gigabytes = zip(*rows, strict=True)
        axis.plot(values, seconds, "o-", label="CPU seconds")
        axis.plot(values, gigabytes, "s--", label="memory, GB")
        axis.set(xlabel=name, ylim=(0, None))
        if name == "classes":
            axis.set_xscale("log")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=130)


def print_rows(rows: list[dict[str, object]]) -> None:
    table = Table("input", "task", "classes", "output", "tiled", "unfused", title="post-processing")
    for row in rows:
        costs = [cast(Cost | None, row[name]) for name in ("tiled", "unfused")]
        shown = [f"{c.seconds:.2f} s, {c.gigabytes:.2f} GB" if c else "" for c in costs]
        table.add_row(*(str(row[k]) for k in ("input", "task", "classes", "output")), *shown)
    Console().print(table)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-baseline", action="store_true", help="it needs 6 GB of memory")
    parser.add_argument("--plot", type=Path, help="also measure and draw the cost by size")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    rows = compare(options.repeats, baseline=not options.no_baseline)
    found: dict[str, list[tuple[int, float, float]]] = {}
    if options.plot:
        found = scale()
        plot(found, options.plot)
    if options.json:
        print(json.dumps({"rows": rows, "scale": found}))
        return
    print_rows(rows)
    for name, values in found.items():
        table = Table(name, "CPU seconds", "memory, GB")
        for value, seconds, gigabytes in values:
            table.add_row(f"{value:,}", f"{seconds:.2f}", f"{gigabytes:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
