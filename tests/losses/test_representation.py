"""MAFT+'s representation compensation, by hand and against the official record."""

import json
from pathlib import Path

import pytest
import torch

from frozenseg.losses.representation import map_profiles, representation_loss


def test_profiles_are_sums_of_means_over_windows_of_the_positive_part() -> None:
    square = torch.tensor([[1.0, 2.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0],
                           [0.0, 0.0, -9.0, 8.0], [0.0, 0.0, 8.0, 8.0]])  # fmt: skip
    whole = [34 / 16] * 2  # one window; its column and its row
    halves = [2.5, 6.0, 2.5, 6.0]  # means of windows of 2 x 2: 2.5, 0, 0, 6
    cells = [4.0, 6.0, 8.0, 16.0, 3.0, 7.0, 8.0, 16.0]
    expected = torch.tensor([*whole, *halves, *cells])
    torch.testing.assert_close(map_profiles(square[None, None]), expected)


def test_windows_follow_from_the_width_before_the_map_is_made_square() -> None:
    """A map of 4 x 2 becomes one of 4 x 4, of which windows of 2 see halves and of 1 cells."""
    tall = torch.ones(1, 1, 4, 2)
    assert len(map_profiles(tall)) == 2 * (2 + 4 + 4)
    assert len(map_profiles(torch.ones(1, 1, 2, 4))) == 2 * (1 + 2 + 4)


def test_equal_maps_have_no_distance_and_gradient_flows_to_the_trained_one() -> None:
    trained = torch.rand(2, 3, 4, 5, requires_grad=True)
    assert representation_loss(trained, trained.detach()).item() == 0
    representation_loss(trained, trained.detach() + 1).backward()
    assert trained.grad is not None and trained.grad.any()


@pytest.mark.golden
def test_the_loss_is_the_official_one(golden_tensors, golden: Path) -> None:
    arrays = golden_tensors("ovrcoat")
    recorded = json.loads((golden / "ovrcoat.json").read_text())["rc_loss"]
    found = representation_loss(arrays["reg_a"], arrays["reg_b"]).item()
    assert found == pytest.approx(recorded, rel=1e-5)
