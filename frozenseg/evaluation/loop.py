"""Evaluating a data set: spread over processes, in blocks, so that an interrupted run can go on."""

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from frozenseg.data.loading import Attempts, Samples, as_list, without_bad
from frozenseg.io.files import atomic_write
from frozenseg.metrics import Evaluator, Row
from frozenseg.ops.maps import size_of
from frozenseg.runtime.distributed import (
    is_main_process,
    num_processes,
    process_rank,
    wait_for_all,
)
from frozenseg.runtime.progress import ProgressBar
from frozenseg.runtime.workers import start_workers
from frozenseg.structures import InputImage, Result, Sample

logger = logging.getLogger(__name__)

Predict = Callable[[list[InputImage]], list[Result]]

BLOCKS = "blocks"  # what has been seen so far; goes when the report is made
KEY = "key.json"
SKIPPED = "skipped"


class EvaluatorSpec(NamedTuple):
    """A measure of quality: a fresh evaluator, and what it is fed of each image."""

    name: str
    make: Callable[[], Evaluator]
    feed: Callable[[Any, Result, Sample], None]


class Prepared(NamedTuple):
    """A sample beside its image as the model shall see it."""

    sample: Sample
    image: Tensor


class Report(NamedTuple):
    """What an evaluation found."""

    metrics: dict[str, float]  # flat names, percent
    per_class: dict[str, list[Row]]  # by spec
    skipped: tuple[str, ...] = ()  # why samples were left out, a sentence each


def evaluate(
    samples: Samples,
    *,
    prepare: Callable[[Sample], Tensor],
    predict: Predict,
    evaluator_specs: Sequence[EvaluatorSpec],
    folder: Path,
    key: str,
    resume: bool = False,
    batch_size: int = 1,
    block_size: int = 64,
    num_workers: int = 0,
    skip_bad: bool = False,
) -> Report:
    """Runs every evaluator over the data set and returns the report. Collective.

    Blocks of samples are dealt out to the processes. Each finished block is a file in ``folder``,
    which all processes share; ``resume`` skips those of an interrupted run with the same ``key``.

    Args:
        prepare: the image as the model shall see it; runs in the workers.
        predict: segments images into results at the size of the original.
        key: what the results depend on: weights, configuration, data set.
        skip_bad: leave out samples that cannot be read; they are logged and in the report.

    Raises:
        UserError: a sample cannot be read, and ``skip_bad`` is off.
    """
    store = BlockStore(folder / BLOCKS, evaluator_specs)
    if is_main_process():
        store.open(key, resume=resume)
    wait_for_all()
    blocks = [
        range(start, min(start + block_size, len(samples)))
        for start in range(0, len(samples), block_size)
    ]
    own = range(process_rank(), len(blocks), num_processes())
    todo = {block: _cut(blocks[block], batch_size) for block in own if not store.has(block)}
    loader = DataLoader(
        Attempts(partial(_prepared, samples, prepare)),
        batch_sampler=[batch for batches in todo.values() for batch in batches],
        num_workers=num_workers,
        collate_fn=as_list,
        generator=torch.Generator(),  # its own, so that a training's random numbers are not moved
    )
    stream = start_workers(loader)
    with ProgressBar(total=len(todo), shown=is_main_process(), what="evaluating") as bar:
        for block, batches in todo.items():
            skipped: list[str] = []
            good = (
                without_bad(items, skip_bad=skip_bad, skipped=skipped)
                for items in islice(stream, len(batches))
            )
            evaluators = run_evaluators(good, predict, evaluator_specs)
            store.save(block, evaluators, skipped)
            bar.advance()
    wait_for_all()
    report = store.report(range(len(blocks)))
    wait_for_all()
    if is_main_process():
        shutil.rmtree(store.folder)
    return report


def run_evaluators(
    batches: Iterable[list[Prepared]], predict: Predict, evaluator_specs: Sequence[EvaluatorSpec]
) -> list[Evaluator]:
    """Fresh evaluators that have seen these batches."""
    evaluators = [spec.make() for spec in evaluator_specs]
    for batch in batches:
        results = predict(
            [
                InputImage(each.image, each.sample.image, size_of(each.sample.image))
                for each in batch
            ]
        )
        for spec, evaluator in zip(evaluator_specs, evaluators, strict=True):
            for result, each in zip(results, batch, strict=True):
                spec.feed(evaluator, result, each.sample)
    return evaluators


class BlockStore:
    """What evaluator_specs have seen, block by block, as arrays on the disk."""

    def __init__(self, folder: Path, evaluator_specs: Sequence[EvaluatorSpec]) -> None:
        self.folder, self.evaluator_specs = folder, evaluator_specs

    def open(self, key: str, *, resume: bool) -> None:
        """Keeps the blocks of an interrupted evaluation of the same if it is to be resumed."""
        note = self.folder / KEY
        if resume and note.exists() and json.loads(note.read_text()) == key:
            found = len(list(self.folder.glob("*.npz")))
            logger.info("%s: %d finished blocks are taken over", self.folder, found)
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        with atomic_write(note) as part:
            part.write_text(json.dumps(key))

    def has(self, block: int) -> bool:
        return self._path(block).exists()

    def save(self, block: int, evaluators: Sequence[Evaluator], skipped: Sequence[str]) -> None:
        arrays = {SKIPPED: np.array(skipped, dtype=np.str_)} | {
            f"{spec.name}/{name}": array
            for spec, evaluator in zip(self.evaluator_specs, evaluators, strict=True)
            for name, array in evaluator.state_dict().items()
        }
        with atomic_write(self._path(block)) as part:
            np.savez(part, allow_pickle=False, **arrays)

    def report(self, blocks: Sequence[int]) -> Report:
        """Everything that the blocks' evaluator_specs have seen, in the order of blocks."""
        evaluators = {spec.name: spec.make() for spec in self.evaluator_specs}
        skipped: list[str] = []
        for block in blocks:
            with np.load(self._path(block), allow_pickle=False) as arrays:
                skipped += arrays[SKIPPED].tolist()
                for spec, evaluator in evaluators.items():
                    own = (name for name in arrays.files if name.startswith(f"{spec}/"))
                    evaluator.merge({name.removeprefix(f"{spec}/"): arrays[name] for name in own})
        metrics: dict[str, float] = {}
        for evaluator in evaluators.values():
            metrics |= evaluator.evaluate()
        rows = {spec: each.per_class() for spec, each in evaluators.items()}
        return Report(metrics, rows, tuple(skipped))

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.npz"


def _prepared(samples: Samples, prepare: Callable[[Sample], Tensor], index: int) -> Prepared:
    sample = samples[index]
    return Prepared(sample, prepare(sample))


def _cut(indices: Sequence[int], size: int) -> list[list[int]]:
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]
