"""The evaluation of a data set: distributed over processes, in blocks, so that it can resume."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
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

BLOCKS = "blocks"  # subfolder of finished blocks, removed when the report is complete
SKIPPED = "skipped"
PREDICTIONS = "predictions/"


class PreparedSample(NamedTuple):
    """A sample and its image at the size that the model sees."""

    sample: Sample
    image: Tensor


class Report(NamedTuple):
    """The results of an evaluation."""

    metrics: dict[str, float]  # flat names, percent
    per_class: dict[str, list[Row]]  # by evaluator
    skipped: tuple[str, ...] = ()  # one sentence per sample that was left out


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
    which all processes must see.

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
    stream = start_workers(loader)
    with ProgressBar(total=len(todo), shown=is_main_process(), what="evaluating") as bar:
        for block, batches in todo.items():
            skipped: list[str] = []
            good = (
                without_bad(items, skip_bad=skip_bad, skipped=skipped)
                for items in islice(stream, len(batches))
            )
            store.save(block, _evaluate_block(good, predict, evaluators, writers, skipped))
            bar.advance()
    store.gather()
    wait_for_all()
    report = _combine(store, len(blocks), evaluators, writers)
    wait_for_all()
    if is_main_process():
        store.clear()
    return report


def _evaluate_block(
    batches: Iterable[list[PreparedSample]],
    predict: Predict,
    specs: Sequence[EvaluatorSpec],
    writers: Sequence[PredictionWriter],
    skipped: list[str],
) -> Arrays:
    """Returns the state of new evaluators after these batches, and the entries of predictions."""
    evaluators = [spec.make() for spec in specs]
    entries: dict[str, list[Entry]] = {writer.name: [] for writer in writers}
    for result, sample in _results(batches, predict):
        for spec, evaluator in zip(specs, evaluators, strict=True):
            spec.feed(evaluator, result, sample)
        for writer in writers:
            entries[writer.name] += writer.write(result, sample)
    return {
        SKIPPED: np.array(skipped, dtype=np.str_),
        **{f"{PREDICTIONS}{name}": entries_as_array(found) for name, found in entries.items()},
        **{
            f"{spec.name}/{name}": array
            for spec, evaluator in zip(specs, evaluators, strict=True)
            for name, array in evaluator.state_dict().items()
        },
    }


def _results(
    batches: Iterable[list[PreparedSample]], predict: Predict
) -> Iterator[tuple[Result, Sample]]:
    for batch in batches:
        images = [
            InputImage(each.image, each.sample.image, size_of(each.sample.image)) for each in batch
        ]
        results = predict(images)
        yield from zip(results, (each.sample for each in batch), strict=True)


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
    sample = samples[index]
    return PreparedSample(sample, prepare(sample))


def _cut(indices: Sequence[int], size: int) -> list[list[int]]:
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]
