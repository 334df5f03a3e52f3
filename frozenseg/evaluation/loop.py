"""The evaluation of a data set: distributed over processes, in blocks, so that it can resume."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from frozenseg.data.loading import Attempts, Samples, as_list, without_bad
from frozenseg.evaluation.blocks import Arrays, BlockStore
from frozenseg.evaluation.evaluators import EvaluatorSpec
from frozenseg.evaluation.predictions import (
    Entry,
    PredictionWriter,
    entries_as_array,
    entries_from_array,
)
from frozenseg.evaluation.speed import (
    IMAGES,
    METRICS,
    MODEL,
    READING,
    RESIZING,
    SCORES,
    Speed,
    Stopwatch,
)
from frozenseg.metrics import Evaluator, Row
from frozenseg.ops.maps import size_of
from frozenseg.runtime.background import Background
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

BLOCKS = "blocks"  # subfolder of finished blocks, removed when the report is complete
SKIPPED = "skipped"
PREDICTIONS = "predictions/"


class PreparedSample(NamedTuple):
    """A sample and its image at the size that the model sees."""

    sample: Sample
    image: Tensor
    reading: float  # seconds
    resizing: float  # seconds


@dataclass(frozen=True)
class Report:
    """The results of an evaluation."""

    metrics: dict[str, float]  # flat names, percent
    per_class: dict[str, list[Row]]  # by evaluator
    skipped: tuple[str, ...] = ()  # one sentence per sample that was left out
    speed: Speed | None = field(default=None, compare=False)  # of this process


def evaluate(
    samples: Samples,
    *,
    prepare: Callable[[Sample], Tensor],
    predict: Predict,
    evaluators: Sequence[EvaluatorSpec],
    folder: Path,
    key: str,
    writers: Sequence[PredictionWriter] = (),
    resume: bool = False,
    batch_size: int = 1,
    block_size: int = 64,
    num_workers: int = 0,
    skip_bad: bool = False,
) -> Report:
    """Runs every evaluator over the data set and returns the report. Collective.

    The processes share the blocks of samples. Each finished block becomes a file in ``folder``,
    which all processes must see. Workers read, and a thread scores, while the model predicts the
    next batch; samples are scored in their order.

    Args:
        samples: the data set.
        prepare: returns the image at the size that the model sees; called in the workers.
        predict: maps prepared images, output sizes (height, width) and original images to results.
        evaluators: what is measured.
        folder: for the finished blocks.
        key: identifies everything that the results depend on: weights, configuration, data set.
        writers: formats in which predictions are written.
        resume: skip the finished blocks of an interrupted run with the same ``key``.
        batch_size: images per call of ``predict``.
        block_size: samples per block.
        num_workers: processes that read samples, for each process of the run.
        skip_bad: leave out samples that cannot be read; they are logged and listed in the report.

    Raises:
        UserError: a sample cannot be read and ``skip_bad`` is off, or predictions or finished
            blocks cannot be written or read back.
    """
    store = BlockStore(folder / BLOCKS)
    store.open(key, resume=resume)
    blocks = _cut(range(len(samples)), block_size)
    own = range(process_rank(), len(blocks), num_processes())
    todo = {block: _cut(blocks[block], batch_size) for block in own if not store.has(block)}
    loader = DataLoader(
        Attempts(partial(_prepared, samples, prepare)),
        batch_sampler=[batch for batches in todo.values() for batch in batches],
        num_workers=num_workers,
        collate_fn=as_list,
        generator=torch.Generator(),  # leaves the random state of a training unchanged
    )
    stream, clock = start_workers(loader), Stopwatch()
    shown = is_main_process()
    with ProgressBar(total=len(todo), shown=shown, what="evaluating") as bar, Background() as rest:
        for number, batches in todo.items():
            block = _Block(evaluators, writers, clock)
            for _ in batches:
                with clock.stage(IMAGES):
                    items = next(stream)
                good = without_bad(items, skip_bad=skip_bad, skipped=block.skipped)
                with clock.stage(MODEL):
                    results = predict([_input(each) for each in good])
                with clock.stage(SCORES):
                    rest.submit(partial(block.add, results, good))
            rest.submit(partial(_finish, store, number, block, bar))
    logger.info("%s", speed := clock.read())
    store.gather()
    wait_for_all()
    report = _combine(store, len(blocks), evaluators, writers)
    wait_for_all()
    if is_main_process():
        store.clear()
    return replace(report, speed=speed)


class _Block:
    """Scores of one block of samples, and the entries of its predictions; fed by one thread."""

    def __init__(
        self, specs: Sequence[EvaluatorSpec], writers: Sequence[PredictionWriter], clock: Stopwatch
    ) -> None:
        self.skipped: list[str] = []
        self._evaluators = [(spec, spec.make()) for spec in specs]
        self._writers = writers
        self._entries: dict[str, list[Entry]] = {writer.name: [] for writer in writers}
        self._clock = clock

    @torch.inference_mode()  # a thread does not inherit it
    def add(self, results: Sequence[Result], batch: Sequence[PreparedSample]) -> None:
        """Feeds the results of a batch to evaluators and writers."""
        with self._clock.stage(METRICS):
            for result, item in zip(results, batch, strict=True):
                for spec, evaluator in self._evaluators:
                    spec.feed(evaluator, result, item.sample)
                for writer in self._writers:
                    self._entries[writer.name] += writer.write(result, item.sample)
        for item in batch:
            self._clock.add(READING, item.reading)
            self._clock.add(RESIZING, item.resizing)
        self._clock.num_images += len(batch)

    def arrays(self) -> Arrays:
        """Returns the state of the evaluators and the entries of predictions."""
        return {
            SKIPPED: np.array(self.skipped, dtype=np.str_),
            **{
                f"{PREDICTIONS}{name}": entries_as_array(found)
                for name, found in self._entries.items()
            },
            **{
                f"{spec.name}/{name}": array
                for spec, evaluator in self._evaluators
                for name, array in evaluator.state_dict().items()
            },
        }


def _finish(store: BlockStore, number: int, block: _Block, bar: ProgressBar) -> None:
    store.save(number, block.arrays())
    bar.advance()


def _input(item: PreparedSample) -> InputImage:
    return InputImage(item.image, item.sample.image, size_of(item.sample.image))


def _combine(
    store: BlockStore,
    num_blocks: int,
    specs: Sequence[EvaluatorSpec],
    writers: Sequence[PredictionWriter],
) -> Report:
    """Merges all blocks in their order; the main process writes the common prediction files."""
    evaluators: dict[str, Evaluator] = {spec.name: spec.make() for spec in specs}
    entries: dict[str, list[Entry]] = {writer.name: [] for writer in writers}
    skipped: list[str] = []
    for block in range(num_blocks):
        arrays = store.load(block)
        skipped += arrays[SKIPPED].tolist()
        for name, evaluator in evaluators.items():
            evaluator.merge(_below(arrays, f"{name}/"))
        for name, found in entries.items():
            found += entries_from_array(arrays[f"{PREDICTIONS}{name}"])
    if is_main_process():
        for writer in writers:
            writer.finish(entries[writer.name])
    metrics: dict[str, float] = {}
    for evaluator in evaluators.values():
        metrics |= evaluator.evaluate()
    rows = {name: evaluator.per_class() for name, evaluator in evaluators.items()}
    return Report(metrics, rows, tuple(skipped))


def _below(arrays: Arrays, prefix: str) -> Mapping[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _prepared(samples: Samples, prepare: Callable[[Sample], Tensor], index: int) -> PreparedSample:
    began = time.perf_counter()
    sample = samples[index]
    read = time.perf_counter()
    image = prepare(sample)
    return PreparedSample(sample, image, read - began, time.perf_counter() - read)


def _cut(indices: Sequence[int], size: int) -> list[list[int]]:
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]
