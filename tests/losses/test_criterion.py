import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from frozenseg.losses import Criterion, HungarianMatcher, criterion
from frozenseg.losses.matcher import pack_targets
from frozenseg.structures import Prediction, Target

GOLDEN = Path(__file__).parents[1] / "golden"
WEIGHTS = {"ce": 2.0, "mask": 5.0, "dice": 5.0}


def build(num_points: int = 64, **options) -> Criterion:
    return Criterion(
        matcher=HungarianMatcher(num_points=num_points), num_points=num_points, **options
    )


def random_batch(
    counts: Sequence[int] = (3, 1), *, layers: int = 3
) -> tuple[list[Prediction], list[Target]]:
    generator = torch.Generator().manual_seed(0)
    images = len(counts)
    predictions = [
        Prediction(
            torch.randn(images, 6, 5, generator=generator, requires_grad=True),
            torch.randn(images, 6, 8, 8, generator=generator, requires_grad=True),
        )
        for _ in range(layers)
    ]
    targets = [
        Target(
            torch.randint(4, (count,), generator=generator),
            torch.rand(count, 32, 32, generator=generator) > 0.5,
        )
        for count in counts
    ]
    return predictions, targets


class Replay:
    """Hands out recorded uniform numbers in the order in which they were drawn."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = torch.from_numpy(numbers)
        self.used = 0

    def __call__(self, shape: Sequence[int], device: torch.device) -> Tensor:
        start, self.used = self.used, self.used + math.prod(shape)
        return self.numbers[start : self.used].reshape(*shape)


class Operators(TorchDispatchMode):
    """Records the names of the operators that are called inside its block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def golden() -> tuple[dict, dict[str, np.ndarray]]:
    with np.load(GOLDEN / "criterion.npz") as arrays:
        return json.loads((GOLDEN / "criterion.json").read_text()), dict(arrays)


@pytest.mark.golden
@pytest.mark.parametrize("scenario", ["two_images", "one_empty", "all_empty"])
def test_losses_gradients_and_matches_agree_with_the_official_code(golden, scenario: str):
    facts, arrays = golden
    logits, masks = (
        torch.from_numpy(arrays[f"{scenario}_pred_{name}"]).requires_grad_()
        for name in ("logits", "masks")
    )
    predictions = [Prediction(*layer) for layer in zip(logits, masks, strict=True)]
    targets = [
        Target(
            *(
                torch.from_numpy(arrays[f"{scenario}_target{image}_{name}"])
                for name in ("labels", "masks")
            )
        )
        for image in range(2)
    ]
    replay = Replay(arrays[f"{scenario}_drawn_points"])
    losses = build(196, draw=replay)(predictions, targets)
    assert replay.used == len(replay.numbers)
    expected = facts[scenario]["losses"]
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        weight = WEIGHTS[name.split("_")[1]]
        assert loss.item() == pytest.approx(weight * expected[name], rel=1e-5), name
    total = sum(losses.values())
    assert total.item() == pytest.approx(facts[scenario]["weighted_total"], rel=1e-5)
    total.backward()
    for tensor, name in ((logits, "logits"), (masks, "masks")):
        wanted = torch.from_numpy(arrays[f"{scenario}_grad_{name}"])
        torch.testing.assert_close(tensor.grad, wanted, rtol=0, atol=1e-5)
    _assert_same_matches(facts[scenario], arrays, scenario, predictions, targets)


def _assert_same_matches(facts, arrays, scenario, predictions, targets) -> None:
    replay = Replay(arrays[f"{scenario}_drawn_points"])
    packed = pack_targets(targets)
    for index, (layer, expected) in enumerate(zip([3, 0, 1, 2], facts["matched"], strict=True)):
        points = replay((2, 196, 2), torch.device("cpu"))
        replay.used += sum(
            math.prod(shape) for shape in facts["draw_shapes"][4 * index + 2 : 4 * index + 4]
        )
        (match,) = HungarianMatcher()([predictions[layer]], packed, [points])
        for image in range(2):
            own = match.image_ids == image
            assert match.query_ids[own].tolist() == expected[image]["query"]
            assert match.target_ids[own].tolist() == expected[image]["target"]


def test_names_put_the_final_prediction_bare_and_number_the_others():
    losses = build()(*random_batch(layers=3))
    assert set(losses) == {
        f"loss_{term}{suffix}" for term in ("ce", "mask", "dice") for suffix in ("", "_0", "_1")
    }


def test_without_deep_supervision_only_the_final_prediction_learns():
    predictions, targets = random_batch(layers=3)
    losses = build(deep_supervision=False)(predictions, targets)
    assert set(losses) == {"loss_ce", "loss_mask", "loss_dice"}
    sum(losses.values()).backward()
    assert predictions[-1].mask_logits.grad is not None
    assert predictions[0].mask_logits.grad is None


def test_void_weighs_a_tenth_in_the_class_loss():
    logits = torch.tensor([[[2.0, 0.0, -1.0], [0.5, 0.0, 1.0]]])  # classes 0 and 1, then void
    left = torch.zeros(2, 4, dtype=torch.bool)
    left[:, :2] = True
    masks = torch.stack([torch.where(left, 9.0, -9.0), torch.where(left, -9.0, 9.0)])[None]
    losses = build()([Prediction(logits, masks)], [Target(torch.tensor([0]), left[None])])
    matched, unmatched = -logits[0].log_softmax(-1)[[0, 1], [0, 2]]
    expected = 2.0 * (matched + 0.1 * unmatched) / 1.1
    torch.testing.assert_close(losses["loss_ce"], expected)


def test_a_certain_and_right_mask_costs_nothing():
    target = torch.zeros(1, 16, 16, dtype=torch.bool)
    target[:, :, :8] = True
    logits = torch.where(target, 60.0, -60.0)[None]

    def pixel_centres(shape: Sequence[int], device: torch.device) -> Tensor:
        return (torch.rand(*shape).mul(16).floor() + 0.5) / 16

    def losses(mask_logits: Tensor) -> dict[str, Tensor]:
        prediction = Prediction(torch.zeros(1, 1, 3), mask_logits)
        return build(draw=pixel_centres)([prediction], [Target(torch.tensor([1]), target)])

    right, wrong = losses(logits), losses(-logits)
    assert right["loss_mask"].item() == pytest.approx(0.0, abs=1e-5)
    assert right["loss_dice"].item() == pytest.approx(0.0, abs=1e-5)
    assert wrong["loss_mask"].item() == pytest.approx(5 * 60.0, rel=1e-5)
    assert wrong["loss_dice"].item() == pytest.approx(5 * (1 - 1 / 65), abs=0.1)


def test_mask_losses_are_divided_by_the_number_of_targets():
    target = torch.ones(1, 8, 8, dtype=torch.bool)
    centre = lambda shape, device: torch.full(tuple(shape), 0.5, device=device)  # noqa: E731
    logits = torch.zeros(1, 2, 4, 4)
    once = build(draw=centre)(
        [Prediction(torch.zeros(1, 2, 3), logits)], [Target(torch.tensor([0]), target)]
    )
    twice = build(draw=centre)(
        [Prediction(torch.zeros(1, 2, 3), logits)],
        [Target(torch.tensor([0, 0]), target.repeat(2, 1, 1))],
    )
    assert once["loss_mask"].item() == pytest.approx(5 * math.log(2), rel=1e-6)
    torch.testing.assert_close(twice["loss_mask"], once["loss_mask"])
    # 64 points, labels all one, probabilities all a half: 1 - (2 * 32 + 1) / (32 + 64 + 1)
    assert once["loss_dice"].item() == pytest.approx(5 * (1 - 65 / 97), rel=1e-6)


def test_processes_share_the_average_number_of_targets(monkeypatch: pytest.MonkeyPatch):
    predictions, targets = random_batch((3, 1), layers=1)
    torch.manual_seed(0)
    alone = build()(predictions, targets)  # 4 targets here

    def add_the_other_process(total: Tensor) -> None:
        total += 8.0  # so 12 over both, 6 on average

    monkeypatch.setattr(criterion.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(criterion.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(criterion.distributed, "all_reduce", add_the_other_process)
    torch.manual_seed(0)
    together = build()(predictions, targets)
    torch.testing.assert_close(together["loss_mask"], alone["loss_mask"] * 4 / 6)
    torch.testing.assert_close(together["loss_ce"], alone["loss_ce"])


def test_a_batch_without_targets_teaches_void_and_leaves_masks_alone():
    predictions, targets = random_batch((0, 0), layers=2)
    losses = build()(predictions, targets)
    assert losses["loss_mask"] == losses["loss_dice_0"] == 0
    assert losses["loss_ce"] > 0
    sum(losses.values()).backward()
    # Zero, not absent: distributed training waits for every parameter's gradient.
    assert predictions[0].mask_logits.grad.abs().sum() == 0
    assert predictions[0].class_logits.grad.abs().sum() > 0


def test_the_order_of_targets_does_not_matter():
    predictions, targets = random_batch((4,), layers=1)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = [Target(targets[0].class_ids[order], targets[0].masks[order])]
    torch.manual_seed(0)
    plain = build()(predictions, targets)
    torch.manual_seed(0)
    permuted = build()(predictions, shuffled)
    for name, loss in plain.items():
        torch.testing.assert_close(permuted[name], loss)


def test_each_prediction_is_matched_on_its_own():
    predictions, targets = random_batch(layers=2)
    torch.manual_seed(0)
    losses = build()([predictions[0], predictions[0]], targets)
    torch.manual_seed(0)
    other = build()([predictions[1], predictions[0]], targets)
    torch.testing.assert_close(losses["loss_mask"], other["loss_mask"])
    assert losses["loss_mask_0"] != other["loss_mask_0"]


def test_all_layers_together_make_the_host_wait_once(monkeypatch: pytest.MonkeyPatch):
    copies: list[tuple[int, ...]] = []
    copy = Tensor.cpu
    monkeypatch.setattr(
        Tensor, "cpu", lambda self: (copies.append(tuple(self.shape)), copy(self))[1]
    )
    predictions, targets = random_batch(layers=10)
    with Operators() as called:
        losses = build()(predictions, targets)
        sum(losses.values()).backward()
    assert copies == [(10, 2, 6, 3)]  # the cost tables of all layers and images
    assert "grid_sampler_2d" in called.names
    assert not called.names & {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero"}


def test_half_precision_predictions_are_scored_in_float32():
    predictions, targets = random_batch(layers=1)
    half = [Prediction(*(tensor.bfloat16() for tensor in predictions[0]))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = build()(half, targets)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def test_more_targets_than_queries_still_trains():
    predictions, targets = random_batch((9, 2), layers=1)
    losses = build()(predictions, targets)
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_missing_target_is_reported():
    predictions, targets = random_batch((3, 1))
    with pytest.raises(ValueError, match="2 images but 1 targets"):
        build()(predictions, targets[:1])
