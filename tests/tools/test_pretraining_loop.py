"""The loop of the pre-training tools: schedule, and resuming."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pretraining_loop
import pytest
import torch
from pretraining_loop import Schedule, apply_gradients, learning_rate_factor, train
from torch import nn


def trained(checkpoint: Path, *, until: int, resume: bool = False) -> torch.Tensor:
    """Weights after ``until`` of 6 steps; the loop is interrupted there."""
    torch.manual_seed(0)
    model = nn.Linear(3, 3)

    def step_on_batch(optimizer, rng: np.random.Generator, step: int) -> tuple[float, float]:
        if step == until:
            raise KeyboardInterrupt
        loss = (model(torch.from_numpy(rng.random((4, 3))).float()) ** 2).mean()
        apply_gradients(model, optimizer, loss)
        return loss.item(), 0.0

    with suppress(KeyboardInterrupt):
        train(
            model,
            step_on_batch,
            schedule=Schedule(steps=6, minutes=1e9, learning_rate=1.0),
            seed=5,
            checkpoint=checkpoint,
            resume=resume,
            measure="nothing",
            evaluate=lambda: "",
        )
    return model.weight.detach()


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pretraining_loop, "CHECKPOINT_SECONDS", -1)
    expected = trained(tmp_path / "whole.pt", until=6)
    half = trained(tmp_path / "half.pt", until=3)
    resumed = trained(tmp_path / "half.pt", until=6, resume=True)
    assert torch.equal(resumed, expected) and not torch.equal(half, expected)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    assert learning_rate_factor(99, 0.0) == pytest.approx(0.5)
    assert learning_rate_factor(199, 0.0) == pytest.approx(1.0)
    assert learning_rate_factor(5000, 0.5) == pytest.approx(0.5)
    assert learning_rate_factor(5000, 1.0) == pytest.approx(0.0)
