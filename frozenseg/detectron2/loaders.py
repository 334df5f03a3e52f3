"""Streams of batches, cut where and filled as the native engine's are."""

from collections.abc import Iterator

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import build_batch_data_loader
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from frozenseg.builders.vocabularies import only_training_set
from frozenseg.data.loading import Attempts, without_bad
from frozenseg.detectron2.datasets import Record, records_of, register_own
from frozenseg.detectron2.mapper import TestMapper, TrainMapper
from frozenseg.detectron2.records import Entry
from frozenseg.evaluation.evaluators import evaluated_annotations
from frozenseg.runtime.workers import start_workers
from frozenseg.training.sampler import InfiniteSampler, Visit


class VisitedRecords:
    """Records as training sees them; as in the native engine, a visit's place decides its draws."""

    def __init__(self, records: Dataset[Record], *, mapper: TrainMapper, seed: int) -> None:
        self.records, self.mapper, self.seed = records, mapper, seed

    def __call__(self, visit: Visit) -> Entry:
        generator = np.random.default_rng((self.seed, visit.position))
        return self.mapper(self.records[visit.index], generator)


class SoundBatches:
    """The batches of a loader whose mapper makes ``Attempts``.

    ``names`` are those of the images in the last one.

    Raises:
        UserError: a sample could not be read; the file is named, as if no worker had been involved.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.names: list[str] = []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Entry]]:
        for batch in start_workers(self.loader):
            entries = without_bad(batch, skip_bad=False)
            self.names = [entry["file_name"] for entry in entries]
            yield entries


def train_loader(cfg: CfgNode, *, seed: int, start: int = 0) -> SoundBatches:
    """This process's batches from position ``start`` of the stream that all processes share."""
    name = only_training_set(cfg)
    register_own(name)
    records = get_detection_dataset_dicts(name, filter_empty=False)
    visited = VisitedRecords(
        DatasetFromList(records, copy=False),  # packed, so that workers share it
        mapper=TrainMapper.from_config(cfg),
        seed=seed,
    )
    sampler = InfiniteSampler(
        len(records),
        seed=seed,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        start=start,
    )
    loader = build_batch_data_loader(
        Attempts(visited),
        sampler,
        cfg.SOLVER.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=seed,  # of a generator of its own, so that the training's is not moved
    )
    return SoundBatches(loader)


def test_loader(cfg: CfgNode, name: str) -> SoundBatches:
    """One image after another; annotations that are not measured need not be there."""
    loader = build_detection_test_loader(
        records_of(name, frozenset(evaluated_annotations(cfg, name))),
        mapper=Attempts(TestMapper.from_config(cfg, name)).__getitem__,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    return SoundBatches(loader)
