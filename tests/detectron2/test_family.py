"""Trainings of the FC-CLIP family: losses of both engines agree, and their runs are exchanged."""

import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2", reason="needs Detectron2")

from frozenseg.builders.model import build_frozenseg
from frozenseg.builders.segmenter import load_model
from frozenseg.checkpoint.weights import save_weights
from frozenseg.detectron2 import run
from frozenseg.training.checkpoints import FINAL_WEIGHTS, CheckpointFolder
from tests.detectron2.conftest import Configure
from tests.detectron2.test_trainer import assert_agree, native, with_detectron2

pytestmark = pytest.mark.detectron2

FCCLIP = {"MODEL.META_ARCHITECTURE": "FCCLIP", "DATASETS.TEST": (), "SOLVER.STEPS": ()}
ADAPTER = FCCLIP | {
    "MODEL.PIPELINE.REGION_CLASSIFIER": "mask_adapter",
    "MODEL.MASK_ADAPTER.NUM_CHANNELS": 8,
    "MODEL.MASK_ADAPTER.NUM_OUTPUT_MAPS": 2,
    "MODEL.MASK_ADAPTER.IOU_THRESHOLD": 0.1,
}
TRUNK = FCCLIP | {"MODEL.BACKBONE.FREEZE": False, "MODEL.WEIGHTS_TOWERS": "use"}
SYSTEMS = {
    "adapter, warm-up": ADAPTER | {"MODEL.MASK_ADAPTER.TRAIN_PHASE": "ground_truth"},
    "adapter, mixed": ADAPTER,
    "maft plus": TRUNK | {"MODEL.PIPELINE.TEXT_ROWS": "content"},
    "ovr": TRUNK,
}
LOSSES = {
    "adapter, warm-up": {"loss_ce", "total_loss"},
    "adapter, mixed": {"loss_ce", "loss_cosine", "total_loss"},
    "maft plus": {"loss_ce", "loss_dice_0", "loss_ranking", "loss_rc"},
    "ovr": {"loss_ce", "loss_dice_0", "loss_oov_ce"},
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_both_engines_have_the_same_losses_and_resume_each_other(
    configure: Configure, tmp_path: Path, system: str
) -> None:
    settings = SYSTEMS[system] | {"SOLVER.MAX_ITER": 4, "SOLVER.CHECKPOINT_PERIOD": 2}
    ours = native(configure(**settings, OUTPUT_DIR=str(tmp_path / "native")))
    assert LOSSES[system] <= ours[0].keys()
    theirs = with_detectron2(configure(**settings, OUTPUT_DIR=str(tmp_path / "detectron2")))
    # of a single loss, Detectron2 keeps the total alone
    ours = [{name: losses[name] for name in theirs[0]} for losses in ours]
    assert_agree(theirs, ours, count=4)
    last, _ = CheckpointFolder(tmp_path / "native" / "checkpoints").paths()
    shutil.rmtree(last)
    resumed = configure(**settings, OUTPUT_DIR=str(tmp_path / "native"))
    assert_agree(with_detectron2(resumed, resume=True), ours[2:], count=2)


def test_a_trunk_is_trained_from_a_decoder_and_evaluated_from_its_own_file(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(build_frozenseg(configure(**FCCLIP)), tmp_path / "decoder.safetensors")
    start = {"MODEL.WEIGHTS": str(tmp_path / "decoder.safetensors"), "SOLVER.MAX_ITER": 1}
    cfg = configure(**SYSTEMS["maft plus"] | start)
    assert run(cfg) == 0
    final = str(tmp_path / "run" / FINAL_WEIGHTS)
    before = build_frozenseg(configure(**FCCLIP)).backbone.model.state_dict()
    after = load_model(cfg, final).proposer.backbone.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("visual.trunk.stem", "visual.trunk.stages")) for name in changed)
    monkeypatch.setattr("frozenseg.builders.trunk.load_backbone", None)  # no teacher is asked for
    assert run(configure(**SYSTEMS["maft plus"] | {"MODEL.WEIGHTS": final}), eval_only=True) == 0
