"""Data loaders with the same batches as the native engine."""

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

from frozenseg.builders.scoring import evaluated_annotations
from frozenseg.builders.training import training_settings
from frozenseg.data.loading import Attempts, without_bad
from frozenseg.detectron2.datasets import Record, records_of, register_own
from frozenseg.detectron2.mapper import TestMapper, TrainMapper
from frozenseg.detectron2.records import Entry
from frozenseg.runtime.workers import start_workers
from frozenseg.training.sampler import InfiniteSampler, Visit


class VisitedRecords:
    """Augmented records; as in the native engine, a visit's position seeds its augmentation."""

    def __init__(self, records: Dataset[Record], *, mapper: TrainMapper, seed: int) -> None:
        self.records, self.mapper, self.seed = records, mapper, seed

    def __call__(self, visit: Visit) -> Entry:
        generator = np.random.default_rng((self.seed, visit.position))
        return self.mapper(self.records[visit.index], generator)


class SoundBatches:
    """The batches of a loader whose mapper returns ``Attempts``.

    ``names`` lists the images of the last batch.

    Raises:
        UserError: while iterating, if a sample cannot be read; the file is named.
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
    """Returns this process's batches from position ``start`` of the shared stream of samples."""
    settings = training_settings(cfg)
    register_own(settings.data_set)
    records = get_detection_dataset_dicts(settings.data_set, filter_empty=False)
    visited = VisitedRecords(
        DatasetFromList(records, copy=False),  # serialized, so that workers share memory
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
        settings.batch_size,
        num_workers=settings.num_workers,
        seed=seed,  # of a separate generator: the training's stays unchanged
    )
    return SoundBatches(loader)


def test_loader(cfg: CfgNode, name: str) -> SoundBatches:
    """Returns single images; annotations that no evaluator reads may be missing."""
    loader = build_detection_test_loader(
        records_of(name, frozenset(evaluated_annotations(cfg, name))),
        mapper=Attempts(TestMapper.from_config(cfg, name)).__getitem__,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    return SoundBatches(loader)
