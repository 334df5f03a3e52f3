"""Records which keys runs read: every key has an effect, one allowed value, or is listed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.common.config import CfgNode

import frozenseg
from frozenseg.builders.adapter import build_adapter_training
from frozenseg.builders.evaluation import check_test_sets, evaluate_dataset
from frozenseg.builders.maskformer import (
    build_maskformer,
    build_maskformer_criterion,
    build_semantic_mapper,
    maskformer_outline,
)
from frozenseg.builders.model import build_model
from frozenseg.builders.options import RunOptions
from frozenseg.builders.segmenter import build_segmenter
from frozenseg.builders.text_transfer import map_from_weights
from frozenseg.builders.trainer import build_training
from frozenseg.builders.trunk import build_trunk_training
from frozenseg.config import ACCEPTED_UNUSED, known_keys, load_config, model_names
from frozenseg.config.allowed import fixed_keys

SWITCHES = {
    "MODEL.MASK_ENSEMBLE.ENABLED": "True",
    "MODEL.MASK_ENSEMBLE.POINTS_PER_SIDE": "2",
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": str(model_names()["shapes"].weights),
    "TEST.AUG.ENABLED": "True",
    "TEST.AUG.MIN_SIZES": "(128,)",
    "SOLVER.MAX_ITER": "1",
    "SOLVER.IMS_PER_BATCH": "1",
    "SOLVER.AMP.ENABLED": "True",
    "DATALOADER.NUM_WORKERS": "0",
}
SMALL_SWIN = (
    "MODEL.BACKBONE.WEIGHTS", "", "MODEL.SWIN.EMBED_DIM", "32", "MODEL.SWIN.DEPTHS", "(1, 1, 1, 1)",
)  # fmt: skip
FCCLIP = (
    "MODEL.META_ARCHITECTURE", "FCCLIP", "MODEL.FC_CLIP.CLIP_MODEL_NAME", "shapes",
    "MODEL.FC_CLIP.EMBED_DIM", "128", "MODEL.MASK_ENSEMBLE.ENABLED", "False",
    "MODEL.OVRCOAT.CLIP_TRUST_WEIGHT", "0.5",
    "MODEL.PIPELINE.REGION_CLASSIFIER", "masked_crops", "MODEL.PIPELINE.REGION_CLIP_NAME", "shapes",
)  # fmt: skip
ADAPTER = (
    "MODEL.PIPELINE.REGION_CLASSIFIER", "mask_adapter", "MODEL.MASK_ADAPTER.NUM_CHANNELS", "8",
    "MODEL.MASK_ENSEMBLE.ENABLED", "False",
)  # fmt: skip
TRUNK = ("MODEL.BACKBONE.FREEZE", "False", "MODEL.WEIGHTS_TOWERS", "use")
CONTENT = (*TRUNK, "MODEL.PIPELINE.TEXT_ROWS", "content")
CROPS = (
    "MODEL.PIPELINE.REGION_CLASSIFIER", "masked_crops", "MODEL.PIPELINE.REGION_CLIP_NAME", "shapes",
    "MODEL.PIPELINE.FUSION", "product",
)  # fmt: skip


class RecordingNode(CfgNode):
    """Notes the dotted name of every value that is read by name; iterating reads nothing."""

    read: set[str] = set()  # noqa: RUF012 (one for all nodes, which builders copy)

    def __init__(self, content: CfgNode, prefix: str = "") -> None:
        super().__init__()
        for key, value in content.items():
            nested = isinstance(value, CfgNode)
            super().__setitem__(key, RecordingNode(value, f"{prefix}{key}.") if nested else value)
        self.__dict__["prefix"] = prefix

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)

    def __getitem__(self, name: str) -> Any:
        self.read.add(f"{self.__dict__.get('prefix', '')}{name}")
        return super().__getitem__(name)

    def clone(self) -> "RecordingNode":
        return RecordingNode(self, self.__dict__["prefix"])


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The keys that a training of one iteration, an evaluation and six other models read."""
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))
    pairs = [part for pair in SWITCHES.items() for part in pair]
    cfg = RecordingNode(
        frozenseg.model_config("shapes", overrides=[*pairs, "OUTPUT_DIR", str(tmp_path / "run")])
    )
    RecordingNode.read.clear()
    build_training(cfg, device=torch.device("cpu")).trainer.run()
    check_test_sets(cfg)
    segmenter = build_segmenter(cfg)
    evaluate_dataset(cfg, segmenter, "shapes_val", tmp_path / "report", RunOptions(limit=2))
    fcclip = RecordingNode(frozenseg.model_config("shapes", overrides=[*pairs, *FCCLIP]))
    build_segmenter(fcclip, model=build_model(fcclip))
    adapter = RecordingNode(frozenseg.model_config("shapes", overrides=[*pairs, *ADAPTER]))
    build_adapter_training(adapter, build_model(adapter))
    content = RecordingNode(frozenseg.model_config("shapes", overrides=[*pairs, *CONTENT]))
    build_trunk_training(content, build_model(content))
    map_from_weights(content)
    ovr = RecordingNode(frozenseg.model_config("shapes", overrides=[*pairs, *TRUNK]))
    build_trunk_training(ovr, build_model(ovr))
    crops = RecordingNode(frozenseg.model_config("shapes", overrides=[*pairs, *CROPS]))
    build_model(crops)
    swin = RecordingNode(load_config("ovseg/ovseg_swin_base_vit_l14.yaml", SMALL_SWIN))
    build_maskformer(swin)
    build_maskformer_criterion(swin)
    build_semantic_mapper(swin)
    maskformer_outline(RecordingNode(load_config("ovseg/ovseg_r101c_vit_b16.yaml")))
    yield set(RecordingNode.read)
    RecordingNode.read.clear()


def test_every_key_is_read_or_can_have_no_other_value_or_is_listed(read: set[str]) -> None:
    keys = set(known_keys())
    assert set(ACCEPTED_UNUSED) <= keys
    unread = keys - read - fixed_keys() - set(ACCEPTED_UNUSED)
    assert not unread, "declare no key that nothing reads"
    assert not set(ACCEPTED_UNUSED) & read, "these are read: they are no longer unused"
