from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from frozenseg.builders.adapter import build_adapter_training
from frozenseg.errors import UserError
from frozenseg.structures import Target
from frozenseg.training.adapter_training import VOID, AdapterTraining
from frozenseg.training.optimizer import build_optimizer
from frozenseg.training.step import Batch
from frozenseg.training.system_step import SystemStep
from frozenseg.vocabulary.text_classifier import TextClassifier
from tests.pipeline.region_classifiers.test_mask_adapter import SMALL

ADAPTER = "region_classifier.adapter."
Build = Callable[..., AdapterTraining]


@pytest.fixture
def training(small_system, small_config) -> Build:
    def build(phase: str = "mixed", **options: object) -> AdapterTraining:
        keys = {**SMALL, "MODEL__MASK_ADAPTER__TRAIN_PHASE": phase, **options}
        return build_adapter_training(
            small_config(sam=False, **keys), small_system(sam=False, **keys)
        )

    return build


def step_of(model: AdapterTraining, lr: float = 0.01) -> SystemStep:
    rows = F.normalize(torch.randn(3, 24, generator=torch.Generator().manual_seed(1)), dim=-1)
    return SystemStep(
        model=model,
        text=TextClassifier(rows, torch.arange(3)),
        optimizer=build_optimizer(model, base_lr=lr, clip_norm=1.0),
        device=torch.device("cpu"),
    )


def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = [
        torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8) for _ in "ab"
    ]
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :, :32] = masks[1, :, 32:] = True
    images[0][:, :, :32] = 250
    targets = [Target(torch.tensor([0, 1]), masks), Target(torch.tensor([2]), masks[:1])]
    return Batch(images, targets, ["a", "b"], visits=2)


@pytest.mark.parametrize("phase", ["ground_truth", "mixed"])
def test_an_update_changes_adapter_and_void_alone(training: Build, phase: str) -> None:
    model = training(phase)
    before = {name: value.clone() for name, value in model.system.state_dict().items()}
    losses = step_of(model.train())([batch()])
    changed = {n for n, v in model.system.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {n for n in before if n.startswith(ADAPTER) or n == f"proposer.{VOID}"}
    assert ("loss_cosine" in losses) == (phase == "mixed")
    assert not model.proposer.training and not model.regions.clip.training


def test_the_warm_up_learns_its_masks_without_the_decoder(training: Build, monkeypatch) -> None:
    model = training("ground_truth")
    monkeypatch.setattr(model.proposer, "forward", None)
    step = step_of(model.train(), lr=0.03)
    first = step([batch()])["loss_ce"]
    for _ in range(40):
        last = step([batch()])["loss_ce"]
    assert last < first / 3


def test_a_warm_up_stores_adapter_and_void_and_a_mixed_phase_everything(training: Build) -> None:
    warmup, mixed = training("ground_truth").trainable_state(), training().trainable_state()
    assert {n for n in warmup if not n.startswith(ADAPTER)} == {VOID}
    assert {n for n in mixed if n.startswith("transformer_decoder.")}
    assert warmup.keys() < mixed.keys()


def test_a_stored_state_comes_back_and_another_is_refused(training: Build) -> None:
    first, second = training("ground_truth"), training("ground_truth")
    with torch.no_grad():
        first.regions.adapter.norm.weight.fill_(3)
    second.load_trainable_state(first.trainable_state(), source="warmup")
    assert second.regions.adapter.norm.weight[0] == 3
    with pytest.raises(UserError, match="warmup holds weights of another architecture"):
        training().load_trainable_state(first.trainable_state(), source="warmup")


def test_the_mean_gradient_of_parts_is_that_of_the_whole(training: Build) -> None:
    whole, parts = training("ground_truth"), training("ground_truth")
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True)
    )
    one = batch()._replace(images=batch().images[:1], targets=batch().targets[:1], names=["a"])
    step_of(whole.train())([one])
    step_of(parts.train())([one, one])
    after = [each.regions.adapter.parameters() for each in (whole, parts)]
    for a, b in zip(*after, strict=True):
        torch.testing.assert_close(a, b)
