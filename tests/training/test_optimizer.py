import pytest
import torch
from torch import nn

from frozenseg.training.optimizer import (
    ClippedAdamW,
    build_optimizer,
    load_moments,
    moments_by_name,
    set_learning_rate,
)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.norms = nn.ModuleList([nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.BatchNorm2d(2)])
        self.embedding = nn.Embedding(3, 2)
        self.level_embedding = nn.Parameter(torch.ones(2))
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.relative_position_bias_table = nn.Parameter(torch.ones(2))
        self.backbone = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.again = self.linear


def settings_by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_each_kind_of_parameter_gets_the_recipes_rate_and_decay() -> None:
    model = Parts()
    optimizer = build_optimizer(
        model,
        base_lr=1.0,
        weight_decay=0.5,
        weight_decay_norm=0.25,
        weight_decay_embed=0.125,
        backbone_multiplier=0.1,
    )
    settings = settings_by_name(model, optimizer)
    decayed = ("linear.weight", "linear.bias", "level_embedding", "logit_scale")
    assert {settings[name] for name in decayed} == {(1.0, 0.5)}
    for number in range(3):
        assert settings[f"norms.{number}.weight"] == settings[f"norms.{number}.bias"] == (1.0, 0.25)
    assert settings["embedding.weight"] == (1.0, 0.125)
    assert settings["relative_position_bias_table"] == (1.0, 0.0)
    assert settings["backbone.weight"] == (0.1, 0.5)
    assert not any(name.startswith(("frozen", "again")) for name in settings)


def test_equal_settings_share_a_group() -> None:
    assert len(build_optimizer(Parts()).param_groups) == 3  # decay, no decay, backbone


def test_the_whole_gradient_is_clipped_inside_the_step() -> None:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = ClippedAdamW([{"params": [first, second], "lr": 0.1}], clip_norm=0.01)
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.step()
    assert optimizer.grad_norm == 5.0
    torch.testing.assert_close(first.grad, torch.tensor([0.006]))
    torch.testing.assert_close(second.grad, torch.tensor([0.008]))


def test_a_small_gradient_is_left_alone() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = ClippedAdamW([{"params": [parameter]}], clip_norm=1.0)
    parameter.grad = torch.tensor([0.3, 0.4])
    optimizer.step()
    torch.testing.assert_close(parameter.grad, torch.tensor([0.3, 0.4]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_moments(bad: float) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = ClippedAdamW([{"params": [parameter], "lr": 0.1}], clip_norm=1.0)
    parameter.grad = torch.full((3,), 0.1)
    optimizer.step()
    before = parameter.detach().clone()
    moments = {key: value.clone() for key, value in optimizer.state[parameter].items()}
    parameter.grad = torch.tensor([0.1, bad, 0.2])
    optimizer.step()
    assert torch.equal(parameter, before)
    assert all(
        torch.equal(value, moments[key]) for key, value in optimizer.state[parameter].items()
    )
    # the broken value stays where it was, and only there
    assert parameter.grad.isfinite().tolist() == [True, False, True]
    parameter.grad = torch.full((3,), 0.1)
    optimizer.step()
    assert not torch.equal(parameter, before)


def test_it_steps_as_torchs_adamw_does() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(4)) for _ in range(2))
    clipped = ClippedAdamW([{"params": [ours], "lr": 0.1, "weight_decay": 0.05}], clip_norm=None)
    plain = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.05)
    for _ in range(3):
        ours.grad = torch.randn(4)
        theirs.grad = ours.grad.clone()
        clipped.step()
        plain.step()
    torch.testing.assert_close(ours, theirs)


def test_the_factor_applies_to_each_groups_own_rate() -> None:
    optimizer = build_optimizer(Parts(), base_lr=1.0, backbone_multiplier=0.1)
    set_learning_rate(optimizer, 0.5)
    set_learning_rate(optimizer, 0.25)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.025, 0.25]


def test_moments_survive_another_grouping() -> None:
    model = Parts()
    before = build_optimizer(model)
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter) if parameter.requires_grad else None
    model.logit_scale.grad = None
    before.step()
    saved = {name: value.clone() for name, value in moments_by_name(before, model).items()}
    after = build_optimizer(model, weight_decay_norm=0.3, weight_decay_embed=0.2)
    load_moments(after, model, saved)
    restored = moments_by_name(after, model)
    assert restored.keys() == saved.keys()
    assert all(torch.equal(restored[name], saved[name]) for name in saved)
    assert "exp_avg/linear.weight" in saved
    assert "exp_avg/logit_scale" not in saved  # it had no gradient
