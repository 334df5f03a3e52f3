"""A model of a few thousand weights in the shapes world, as both engines build it."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.common.config import CfgNode
from safetensors.torch import save_file

from frozenseg.config import load_config
from frozenseg.towers.clip_folder import build_clip
from frozenseg.towers.sam_folder import sam_from_config

CLIP: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"timm_model_name": "convnext_for_detectron2", "timm_proj": "linear"},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 515,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    },
    "timm_convnext": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]},
}
SAM: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 16,
    "out_channels": 32,
    "encoder": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "transformer": {"depth": 1, "num_heads": 2, "mlp_dim": 16},
    "decoder": {"num_multimask_outputs": 3, "iou_head_depth": 2, "iou_head_hidden_dim": 8},
}
SETTINGS: dict[str, Any] = {
    "SEED": 3,
    "MODEL.DEVICE": "cpu",
    "MODEL.FROZEN_SEG.EMBED_DIM": 16,
    "MODEL.FC_CLIP.EMBED_DIM": 16,
    "MODEL.FROZEN_SEG.QUERY_INJECTOR_LAYERS": (2,),
    "MODEL.FROZEN_SEG.FEATURE_INJECTOR_LAYERS": (1,),
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.SEM_SEG_HEAD.DIM_FEEDFORWARD": 32,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 12,
    "MODEL.MASK_FORMER.DEC_LAYERS": 4,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
    "INPUT.IMAGE_SIZE": 64,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 64,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 20,
    "SOLVER.STEPS": (12, 16),
    "SOLVER.WARMUP_ITERS": 5,
    "SOLVER.CHECKPOINT_PERIOD": 0,
}

Configure = Callable[..., CfgNode]


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a CLIP and a SAM with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("towers")
    (folder / "clip").mkdir()
    (folder / "clip" / "open_clip_config.json").write_text(json.dumps(CLIP))
    (folder / "clip" / "bpe.txt.gz").write_bytes(gzip.compress(b"#version: 0.2\nc a"))
    clip = build_clip(CLIP)
    for name, weight in clip.visual.trunk.named_parameters():
        if name.endswith("gamma"):  # 1e-6 at first: every image would look the same
            weight.data.fill_(1.0)
    save_file(clip.state_dict(), folder / "clip" / "open_clip_model.safetensors")
    (folder / "sam.json").write_text(json.dumps(SAM))
    save_file(sam_from_config(SAM).state_dict(), folder / "sam.safetensors")
    return folder


@pytest.fixture
def configure(towers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Makes a configuration of the project: ``configure(**{"SOLVER.MAX_ITER": 3})``."""
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))

    def make(**changes: object) -> CfgNode:
        settings = SETTINGS | {
            "MODEL.FROZEN_SEG.CLIP_MODEL_NAME": str(towers / "clip"),
            "MODEL.FC_CLIP.CLIP_MODEL_NAME": str(towers / "clip"),
            "MODEL.SAM_NAME": str(towers),
            "OUTPUT_DIR": str(tmp_path / "run"),
        }
        pairs = [part for pair in (settings | changes).items() for part in pair]
        return load_config("shapes/frozenseg.yaml", pairs)

    return make
