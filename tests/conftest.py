"""What every test may rely on: a seed, a known number of threads, stored reference outputs."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.builders.model import build_model
from frozenseg.config import default_config
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.towers.clip import ClipTower
from frozenseg.towers.loading import clip_tower
from frozenseg.towers.sam import SamTower
from frozenseg.towers.sam_folder import sam_from_config

pytest_plugins = ["tests.fixtures.datasets", "tests.fixtures.ovseg", "tests.fixtures.training"]

GOLDEN = Path(__file__).with_name("golden")

# few threads, as many in the processes that tests start: sums over more differ in their last bits
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips tests whose surroundings are missing, with the reason in the report."""
    missing = {}
    if not torch.cuda.is_available():
        missing["gpu"] = "needs a CUDA device"
    if importlib.util.find_spec("detectron2") is None:
        missing["detectron2"] = "needs Detectron2"
    if "network" not in config.option.markexpr:
        missing["network"] = "downloads something: choose it with -m network"
    for item in items:
        for marker in missing.keys() & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.skip(reason=missing[marker]))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference outputs; the ``.json`` beside each ``.npz`` describes it."""
    return GOLDEN


@pytest.fixture(scope="session")
def golden_tensors() -> Callable[[str], dict[str, Tensor]]:
    """Reads the arrays of one reference file: ``golden_tensors("msdeformattn")["value"]``."""

    def read(name: str) -> dict[str, Tensor]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays}

    return read


SMALL_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
SMALL_VISION = {
    "convnext": {
        "timm_model_name": "test_convnext",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 64,
    },
    "resnet": {"layers": [1, 1, 1, 1], "width": 16, "head_width": 64, "image_size": 64},
}
SMALL_SAM = {
    "image_size": 64,
    "patch_size": 8,
    "out_channels": 32,
    "encoder": {
        "depth": 2, "embed_dim": 16, "num_heads": 2, "use_rel_pos": True, "window_size": 3,
        "global_attn_indexes": [1],
    },
    "transformer": {"depth": 1, "num_heads": 2, "mlp_dim": 16},
    "decoder": {"num_multimask_outputs": 3, "iou_head_depth": 2, "iou_head_hidden_dim": 16},
}  # fmt: skip
SMALL_KEYS = (
    ("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32), ("MODEL.SEM_SEG_HEAD.MASK_DIM", 32),
    ("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 1), ("MODEL.SEM_SEG_HEAD.DIM_FEEDFORWARD", 32),
    ("MODEL.MASK_FORMER.HIDDEN_DIM", 32), ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 6),
    ("MODEL.MASK_FORMER.NHEADS", 4), ("MODEL.MASK_FORMER.DIM_FEEDFORWARD", 32),
    ("MODEL.FROZEN_SEG.EMBED_DIM", 24), ("MODEL.FC_CLIP.EMBED_DIM", 24),
)  # fmt: skip


@pytest.fixture(scope="session")
def small_clip() -> Callable[[str], ClipTower]:
    """``small_clip("resnet")``: a CLIP tower of random weights whose regions differ."""

    def build(kind: str = "convnext") -> ClipTower:
        torch.manual_seed(1)
        model = open_clip.CLIP(embed_dim=24, vision_cfg=SMALL_VISION[kind], text_cfg=SMALL_TEXT)
        for name, parameter in model.visual.named_parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
            elif name.endswith("gamma"):
                torch.nn.init.constant_(parameter, 0.5)
        tokenize = open_clip.SimpleTokenizer(context_length=16)
        return clip_tower(model, tokenize=tokenize, name=f"a small {kind}")

    return build


@pytest.fixture(scope="session")
def small_config() -> Callable[..., CfgNode]:
    """The configuration of ``small_model`` with these options."""

    def build(*, sam: bool = True, **keys: object) -> CfgNode:
        cfg = default_config()
        cfg.MODEL.META_ARCHITECTURE = "FrozenSeg" if sam else "FCCLIP"
        chosen = {name.replace("__", "."): value for name, value in keys.items()}
        for name, value in {**dict(SMALL_KEYS), **chosen}.items():
            cfg.merge_from_list([name, value])
        return cfg

    return build


@pytest.fixture(scope="session")
def small_system(small_clip, small_config) -> Callable[..., SegmentationModel]:
    """``small_system("resnet", sam=False)``: a whole system of random weights, in eval mode.

    Further arguments are configuration keys, with two underscores for a dot.
    """

    def build(
        kind: str = "convnext", *, sam: bool = True, seed: int = 0, **keys: object
    ) -> SegmentationModel:
        clip = small_clip(kind)
        torch.manual_seed(2)
        tower = SamTower(sam_from_config(SMALL_SAM)) if sam else None
        torch.manual_seed(seed)
        return build_model(small_config(sam=sam, **keys), clip=clip, sam=tower).eval()

    return build


@pytest.fixture(scope="session")
def small_model(small_system) -> Callable[..., FrozenSeg]:
    """The proposer of ``small_system`` with the same arguments."""
    return lambda *arguments, **keys: small_system(*arguments, **keys).proposer
