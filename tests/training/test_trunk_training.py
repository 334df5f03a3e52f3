"""The training of CLIP's image trunk: MAFT+ and OVR."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from frozenseg import model_config
from frozenseg.builders.model import build_model
from frozenseg.builders.options import RunOptions
from frozenseg.builders.segmenter import load_model
from frozenseg.builders.systems import training_rows
from frozenseg.builders.trainer import build_training
from frozenseg.builders.trunk import build_trunk_training
from frozenseg.checkpoint.members import MAP_NOTE
from frozenseg.checkpoint.weights import save_weights
from frozenseg.errors import UserError
from frozenseg.structures import InputImage
from frozenseg.training.checkpoints import CheckpointFolder, read_checkpoint
from frozenseg.training.optimizer import build_optimizer
from frozenseg.training.system_step import SystemStep
from frozenseg.training.trunk_training import TrunkTraining
from frozenseg.vocabulary.text_classifier import TextClassifier
from tests.training.test_adapter_training import batch

CONTENT = {"MODEL__PIPELINE__TEXT_ROWS": "content"}
TRUNK = {"sam": False, "MODEL__BACKBONE__FREEZE": False, "MODEL__WEIGHTS_TOWERS": "use"}
Build = Callable[..., TrunkTraining]


@pytest.fixture
def training(small_system, small_config, small_clip, monkeypatch: pytest.MonkeyPatch) -> Build:
    """The training of a small system: MAFT+ by default, OVR with ``ovr=True``."""
    monkeypatch.setattr("frozenseg.builders.trunk.load_backbone", lambda _: small_clip())

    def build(*, ovr: bool = False, **options: object) -> TrunkTraining:
        keys = {**TRUNK, **({} if ovr else CONTENT), **options}
        return build_trunk_training(small_config(**keys), small_system(**keys))

    return build


def rows() -> TextClassifier:
    generator = torch.Generator().manual_seed(1)
    return TextClassifier(
        F.normalize(torch.randn(3, 24, generator=generator), dim=-1), torch.arange(3)
    )


def step_of(model: TrunkTraining, lr: float = 0.01) -> SystemStep:
    return SystemStep(
        model=model,
        text=training_rows(model.system, rows()),
        optimizer=build_optimizer(model, base_lr=lr, clip_norm=1.0),
        device=torch.device("cpu"),
    )


def gradients(model: TrunkTraining, *names: str) -> dict[str, Tensor]:
    """The trunk's gradients of some losses."""
    given = batch()
    losses = model(given.images, given.targets, training_rows(model.system, rows()))
    sum(losses[name] for name in names).backward()
    found = {
        name: parameter.grad
        for name, parameter in model.clip.model.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("ovr", [False, True])
def test_an_update_changes_decoder_members_and_trunk_alone(training: Build, ovr: bool) -> None:
    model = training(ovr=ovr).train()
    before = {name: value.clone() for name, value in model.system.state_dict().items()}
    step = step_of(model)
    for _ in range(2):  # the transfer's attention has no gradient while what follows it is zero
        losses = step([batch()])
    changed = {n for n, v in model.system.state_dict().items() if not torch.equal(v, before[n])}
    clip = {n.partition("backbone.model.")[2] for n in changed if "backbone.model." in n}
    trunk = {n for n in clip if n.startswith(("visual.trunk.stem", "visual.trunk.stages"))}
    assert trunk
    assert clip - trunk == ({"logit_scale"} if ovr else set())
    assert any(n.startswith("proposer.transformer_decoder") for n in changed)
    assert "proposer.void_embedding.weight" in changed
    assert any(n.startswith("text_transfer") for n in changed) is not ovr
    further = {"loss_oov_ce"} if ovr else {"loss_ranking", "loss_rc"}
    assert {n for n in losses if not n.startswith(("loss_ce", "loss_mask", "loss_dice"))} == {
        "total_loss",
        *further,
    }


def test_the_decoders_losses_reach_the_trunk_in_ovr_and_not_in_maft_plus(training: Build) -> None:
    assert not gradients(training().train(), "loss_ce", "loss_mask", "loss_dice_0")
    assert gradients(training(ovr=True).train(), "loss_ce", "loss_mask", "loss_dice_0")


@pytest.mark.parametrize("name", ["loss_ranking", "loss_rc"])
def test_each_loss_of_maft_plus_reaches_the_trunk(training: Build, name: str) -> None:
    model = training().train()
    with torch.no_grad():
        model.clip.model.visual.trunk.stem[0].weight.mul_(1.1)  # not the teacher any more
    found = gradients(model, name)
    assert "visual.trunk.stem.0.weight" in found
    assert all(n.startswith("visual.trunk.st") for n in found)


def test_the_teacher_keeps_its_weights_and_a_trunk_like_it_has_no_loss(training: Build) -> None:
    model = training().train()
    step = step_of(model)
    before = model.teacher.fingerprint
    assert step([batch()])["loss_rc"].item() == 0
    assert step([batch()])["loss_rc"].item() > 0
    assert model.teacher.fingerprint == before != model.clip.fingerprint


@pytest.mark.parametrize("ovr", [False, True])
def test_regions_are_classified_in_training_as_at_test(training: Build, ovr: bool) -> None:
    model = training(ovr=ovr).eval()
    text = training_rows(model.system, rows())
    pixels = batch().images[0]
    with torch.no_grad():
        (found,) = model.proposer.propose([InputImage(pixels, pixels, (64, 64))], text)
        regions = model.system.region_classifier(InputImage(pixels, pixels, (64, 64)), found)
        own = text.for_regions().for_image(found.clip_map.features)
        expected = own.logits(regions.embeddings, regions.logit_scale)
        logits = model.region_logits(found.clip_map.features, found.mask_logits[None], text)
    torch.testing.assert_close(logits[0], expected)


def test_stochastic_depth_is_on_in_ovr_and_off_in_maft_plus_and_at_test(training: Build) -> None:
    for ovr in (False, True):
        model = training(ovr=ovr).train()
        assert model.clip.trunk[1].training is ovr
        assert not model.clip.model.visual.head.training
        assert not model.system.eval().proposer.backbone.model.visual.trunk.stages.training


def test_the_whole_clip_is_stored_and_comes_back(training: Build) -> None:
    first, second = training().train(), training()
    step_of(first)([batch()])
    second.load_trainable_state(first.trainable_state(), source="run")
    assert second.clip.fingerprint == first.clip.fingerprint
    names = {n for n in first.trainable_state() if n.startswith("clip.model.")}
    assert len(names) == len(first.clip.model.state_dict())


def test_mask_losses_of_parts_are_those_of_the_whole_batch(training: Build) -> None:
    """Images of two targets and of one: each part divides by the mean number, 1.5."""

    def losses(*parts: int) -> dict[str, Tensor]:
        model = training().train()
        model.criterion.draw = lambda shape, device: torch.full(shape, 0.3, device=device)
        given = batch()
        pieces = given.images, given.targets, given.names
        cut = [[piece[start : start + parts[0]] for piece in pieces] for start in parts[1:]]
        return step_of(model)([given._replace(images=i, targets=t, names=n) for i, t, n in cut])

    whole, divided = losses(2, 0), losses(1, 0, 1)
    for name in ("loss_mask", "loss_dice", "loss_mask_0"):
        torch.testing.assert_close(whole[name], divided[name])


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({**CONTENT}, "set MODEL.BACKBONE.FREEZE to False"),
        ({"MODEL__BACKBONE__FREEZE": False}, "set MODEL.WEIGHTS_TOWERS to use"),
    ],
)
def test_keys_that_disagree_are_one_sentence(small_config, tmp_path: Path, keys, sentence) -> None:
    cfg = small_config(**keys, DATASETS__TRAIN=("shapes_train",), OUTPUT_DIR=str(tmp_path))
    with pytest.raises(UserError, match=sentence):
        build_training(cfg, device=torch.device("cpu"))


def test_a_trunk_that_no_pooled_map_reads_is_refused(training: Build) -> None:
    with pytest.raises(UserError, match="pooled_map"):
        training(ovr=True, MODEL__PIPELINE__REGION_CLASSIFIER="masked_crops")


def shapes_config(folder: Path, **keys: object) -> CfgNode:
    quick = {
        "SEED": 1, "MODEL.MAFT_PLUS.IMAGE_MAP": "scrambled", "OUTPUT_DIR": str(folder / "run"),
        "DATASETS.TEST": (), "DATALOADER.NUM_WORKERS": 0, "SOLVER.MAX_ITER": 2,
        "SOLVER.IMS_PER_BATCH": 1, "SOLVER.CHECKPOINT_PERIOD": 1,
    } | keys  # fmt: skip
    pairs = [str(word) for pair in quick.items() for word in pair]
    return model_config("shapes/maft_plus.yaml", overrides=pairs)


def train(cfg: CfgNode, *, resume: bool = False) -> CheckpointFolder:
    run = build_training(cfg, device=torch.device("cpu"), options=RunOptions(resume=resume))
    run.trainer.run()
    return run.trainer.checkpoints


def test_a_training_in_the_shapes_world_resumes_exactly_and_its_weights_load(
    tmp_path: Path,
) -> None:
    start = shapes_config(tmp_path, **{"MODEL.BACKBONE.FREEZE": True})
    save_weights(build_model(start).proposer, tmp_path / "decoder.safetensors")
    cfg = shapes_config(tmp_path, **{"MODEL.WEIGHTS": tmp_path / "decoder.safetensors"})
    folder = train(cfg)
    last, first = folder.paths()
    whole, before = read_checkpoint(last), read_checkpoint(first)
    last.rename(tmp_path / "last")
    resumed = read_checkpoint(train(cfg, resume=True).paths()[0])
    for name, value in whole.weights.items():
        assert torch.equal(value, resumed.weights[name]), name
    for name, value in whole.training.items():
        assert torch.equal(value, resumed.training[name]), name
    assert resumed.about == whole.about
    assert whole.about["trained_towers"] == "clip" and whole.about[MAP_NOTE] == "scrambled"
    assert whole.about["clip"] != before.about["clip"] != whole.about["teacher"]

    assert {n.split(".")[0] for n in whole.weights} >= {"clip", "text_transfer"}
    assert not any(n.startswith("sam.") for n in whole.weights), "SAM is published: it is named"
    loaded = load_model(shapes_config(tmp_path), tmp_path / "last")
    assert loaded.proposer.backbone.fingerprint == whole.about["clip"]
    assert loaded.text_transfer.scrambled
    with pytest.raises(UserError, match="trained with it"):
        load_model(
            shapes_config(tmp_path, **{"MODEL.WEIGHTS_TOWERS": "compare"}), tmp_path / "last"
        )


def test_a_run_is_not_resumed_with_another_teacher(
    tmp_path: Path, small_clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = shapes_config(tmp_path, **{"SOLVER.MAX_ITER": 1})
    train(cfg)
    monkeypatch.setattr("frozenseg.builders.trunk.load_backbone", lambda _: small_clip())
    with pytest.raises(UserError, match="trained with another teacher tower"):
        build_training(cfg, device=torch.device("cpu"), options=RunOptions(resume=True))
