#!/usr/bin/env python
"""Speed and memory of the evaluators.

    OMP_NUM_THREADS=1 python tools/benchmarks/evaluators.py

Panoptic quality of image pairs of 640 x 480 pixels with 20 segments, against a loop over segments
in NumPy; mIoU of 847 classes; mask AP with 100 detections per image. Each part runs in its own
process; peak memory includes Python and PyTorch, which the first row measures alone. Seconds are
CPU time, so that other processes hardly affect them.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from frozenseg.metrics import Classes, InstanceEvaluator, PanopticEvaluator, SemanticEvaluator
from frozenseg.structures import InstanceAnnotation, Instances, PanopticMap, Segment, boxes_of

HEIGHT, WIDTH, SEGMENTS = 480, 640, 20
NUM_CLASSES = 133
MANY_CLASSES = 847
DISTINCT = 50  # image pairs, used repeatedly

Pair = tuple[PanopticMap, PanopticMap]


class Measured(NamedTuple):
    """Measurements of a part; parts that compute the same measure must agree in ``result``."""

    seconds: float
    peak_mb: float
    result: float


def voronoi(rng: np.random.Generator, centres: np.ndarray, class_ids: np.ndarray) -> PanopticMap:
    """A panoptic map with one segment per centre and a void strip at the top."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distances = (y - centres[:, 0, None, None]) ** 2 + (x - centres[:, 1, None, None]) ** 2
    ids = distances.argmin(axis=0).astype(np.int32) + 1
    ids[: rng.integers(5, 20)] = 0
    pixels = np.bincount(ids.ravel(), minlength=len(centres) + 1)
    segments = tuple(
        Segment(number + 1, int(class_id), is_thing=class_id < 80, area=int(pixels[number + 1]))
        for number, class_id in enumerate(class_ids)
        if pixels[number + 1]
    )
    return PanopticMap(torch.from_numpy(ids), segments)


def panoptic_pairs(count: int) -> Iterator[Pair]:
    """Predictions that resemble their annotation."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(min(count, DISTINCT)):
        centres = rng.uniform((0, 0), (HEIGHT, WIDTH), (SEGMENTS, 2))
        class_ids = rng.integers(0, NUM_CLASSES, SEGMENTS)
        moved = centres + rng.normal(0, 8, centres.shape)
        guessed = np.where(rng.random(SEGMENTS) < 0.8, class_ids, (class_ids + 1) % NUM_CLASSES)
        pairs.append((voronoi(rng, moved, guessed), voronoi(rng, centres, class_ids)))
    return islice(cycle(pairs), count)


def panoptic(pairs: Iterator[Pair]) -> float:
    evaluator = PanopticEvaluator(
        Classes(NUM_CLASSES, is_thing=[k < 80 for k in range(NUM_CLASSES)])
    )
    for prediction, target in pairs:
        evaluator.process(prediction, target)
    return evaluator.evaluate()["panoptic/PQ"]


def panoptic_by_loop(pairs: Iterator[Pair]) -> float:
    """Panoptic quality by its definition, segment by segment, without crowd regions."""
    iou_sum, attempts = np.zeros(NUM_CLASSES), np.zeros(NUM_CLASSES)
    for prediction, target in pairs:
        ids, annotated = prediction.ids.numpy(), target.ids.numpy()
        for segment in target.segments:
            attempts[segment.class_id] += 0.5
        for segment in prediction.segments:
            mask = ids == segment.id
            on_void = (mask & (annotated == 0)).sum()
            matched = False
            for other in target.segments:
                if other.class_id != segment.class_id:
                    continue
                shared = (mask & (annotated == other.id)).sum()
                iou = shared / (mask.sum() + other.area - shared - on_void)
                if iou > 0.5:
                    iou_sum[segment.class_id] += iou
                    matched = True
            if matched or on_void <= 0.5 * mask.sum():
                attempts[segment.class_id] += 0.5
    counted = attempts > 0
    return 100 * float((iou_sum[counted] / attempts[counted]).mean())


def label_maps(count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        blocks = rng.integers(0, MANY_CLASSES, (HEIGHT // 32, WIDTH // 32))
        target = np.kron(blocks, np.ones((32, 32), dtype=np.int64))
        prediction = np.roll(target, 8, axis=1)
        target[:8] = 65535
        yield torch.from_numpy(prediction), torch.from_numpy(target)


def semantic(maps: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> float:
    evaluator = SemanticEvaluator(Classes(MANY_CLASSES), ignore_label=65535)
    for prediction, target in maps:
        evaluator.process(prediction, target)
    return evaluator.evaluate()["semantic/mIoU"]


def detections(count: int) -> Iterator[tuple[Instances, list[InstanceAnnotation]]]:
    """100 detections and 20 objects in each image."""
    rng = np.random.default_rng(0)
    for _, target in panoptic_pairs(count):
        masks = torch.stack([target.ids == segment.id for segment in target.segments])
        class_ids = torch.tensor([segment.class_id for segment in target.segments])
        chosen = torch.from_numpy(rng.integers(0, len(masks), 100))
        moved = masks[chosen].roll(4, dims=2)
        scores = torch.from_numpy(rng.random(100))
        found = Instances(class_ids[chosen], scores, moved, boxes_of(moved))
        yield (
            found,
            [InstanceAnnotation(int(k), mask) for k, mask in zip(class_ids, masks, strict=True)],
        )


def instance(images: Iterator[tuple[Instances, list[InstanceAnnotation]]]) -> float:
    evaluator = InstanceEvaluator(Classes(NUM_CLASSES))
    for found, annotations in images:
        evaluator.process_annotations(found, annotations)
    return evaluator.evaluate()["instance/AP"]


PARTS: dict[str, tuple[str, Callable[[int], Iterator], Callable[[Iterator], float]]] = {
    "nothing": ("Python and PyTorch alone", lambda _: iter(()), lambda _: 0.0),
    "panoptic": ("PQ", panoptic_pairs, panoptic),
    "loop": ("PQ, loop over segments", panoptic_pairs, panoptic_by_loop),
    "semantic": (f"mIoU, {MANY_CLASSES} classes", label_maps, semantic),
    "instance": ("AP, 100 detections", detections, instance),
}


def measure(part: str, count: int) -> Measured:
    """Measures a part in this process, without the time in which its images are generated."""
    _, inputs, evaluate = PARTS[part]
    waited = 0.0

    def timed(images: Iterator) -> Iterator:
        nonlocal waited
        while True:
            start = time.process_time()
            image = next(images, None)
            waited += time.process_time() - start
            if image is None:
                return
            yield image

    images = inputs(count)
    start = time.process_time()
    result = evaluate(timed(images))
    seconds = time.process_time() - start - waited
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    return Measured(seconds, peak, result)


def measure_apart(part: str, count: int) -> Measured:
    """Measures a part in its own process."""
    command = [sys.executable, __file__, "--images", str(count), "--part", part]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Measured(*json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of the evaluators.")
    parser.add_argument("--images", type=int, default=1000, metavar="N")
    parser.add_argument("--part", choices=PARTS, help="measure one part only; print JSON")
    options = parser.parse_args()
    if options.part is not None:
        print(json.dumps(measure(options.part, options.images)))
        return
    found = {part: measure_apart(part, options.images) for part in PARTS}
    table = Table("", "CPU seconds", "images a second", "peak memory, MB", "result, percent")
    for part, (name, _, _) in PARTS.items():
        seconds, peak, result = found[part]
        rate = f"{options.images / seconds:,.0f}" if part != "nothing" else ""
        shown = ("", "") if part == "nothing" else (f"{seconds:.2f}", f"{result:.2f}")
        table.add_row(name, shown[0], rate, f"{peak:,.0f}", shown[1])
    Console().print(table)
    assert abs(found["panoptic"].result - found["loop"].result) < 1e-6, "the two PQ disagree"
    ratio = found["loop"].seconds / found["panoptic"].seconds
    Console().print(f"PQ is {ratio:.1f} times as fast as the loop over segments")


if __name__ == "__main__":
    main()
