"""Mappers from records to model inputs, for Detectron2's data loaders."""

import numpy as np
from detectron2.config import CfgNode

from frozenseg.builders.scoring import evaluated_outputs
from frozenseg.builders.training import ImagePreparation, build_mapper, build_preparation
from frozenseg.builders.vocabularies import build_known_vocabulary, build_test_vocabulary
from frozenseg.data.mapper import TrainingMapper
from frozenseg.detectron2.datasets import Record, sample_of
from frozenseg.detectron2.records import Entry, instances_of


class TrainMapper:
    """Adds ``image`` and ``instances`` to a record: flip, large-scale jitter, crop.

    The default generator is seeded by NumPy's global one, which Detectron2 seeds in every worker.
    """

    def __init__(self, augment: TrainingMapper) -> None:
        self.augment = augment

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "TrainMapper":
        return cls(build_mapper(cfg))

    def __call__(self, record: Record, generator: np.random.Generator | None = None) -> Entry:
        sample = sample_of(record)
        generator = generator or np.random.default_rng(np.random.randint(2**31))
        image, target = self.augment(sample, generator)
        height, width = sample.image.shape[-2:]
        return {
            **record,
            "image": image,
            "height": height,
            "width": width,
            "instances": instances_of(target),
        }


class TestMapper:
    """Adds the resized ``image``, the requested outputs and, for evaluators, the sample.

    Args:
        prepare: resizes the image.
        request: added to every entry: vocabulary and outputs (see the model's ``forward``).
    """

    __test__ = False  # pytest would collect the class by its name

    def __init__(self, prepare: ImagePreparation, *, request: Entry) -> None:
        self.prepare, self.request = prepare, request

    @classmethod
    def from_config(cls, cfg: CfgNode, name: str) -> "TestMapper":
        request = {
            "vocabulary": build_test_vocabulary(cfg, name),
            "known_vocabulary": build_known_vocabulary(cfg, name),
            "outputs": evaluated_outputs(cfg, name),
        }
        return cls(build_preparation(cfg, name), request=request)

    def __call__(self, record: Record) -> Entry:
        sample = sample_of(record)
        height, width = sample.image.shape[-2:]
        return {
            **record,
            **self.request,
            "image": self.prepare(sample),
            "original": sample.image,
            "height": height,
            "width": width,
            "sample": sample,
        }
