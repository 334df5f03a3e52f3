"""Focal and dice loss by hand, matching by trying everything, padding as background."""

import math
from itertools import permutations

import pytest
import torch

from frozenseg.losses import criterion as shared
from frozenseg.losses.maskformer_criterion import MaskFormerCriterion
from frozenseg.losses.maskformer_matcher import PixelMatcher
from frozenseg.losses.matcher import pack_targets
from frozenseg.structures import Prediction, Target

LEFT = torch.tensor([[True, False], [True, False]])


def build(**options) -> MaskFormerCriterion:
    return MaskFormerCriterion(matcher=PixelMatcher(), **options)


def predict(masks: torch.Tensor, *, num_classes: int = 2) -> Prediction:
    """One image; classes are undecided."""
    return Prediction(torch.zeros(1, len(masks), num_classes + 1), masks[None])


def random_batch(
    counts: tuple[int, ...] = (3, 1), *, layers: int = 3
) -> tuple[list[Prediction], list[Target]]:
    generator = torch.Generator().manual_seed(0)
    predictions = [
        Prediction(
            torch.randn(len(counts), 5, 5, generator=generator, requires_grad=True),
            torch.randn(len(counts), 5, 4, 6, generator=generator, requires_grad=True),
        )
        for _ in range(layers)
    ]
    targets = [
        Target(
            torch.randint(4, (count,), generator=generator),
            torch.rand(count, 16, 24, generator=generator) > 0.5,
        )
        for count in counts
    ]
    return predictions, targets


def test_focal_and_dice_loss_by_hand() -> None:
    """Probabilities 0.75 and 0.25 inside, 0.5 and 0.75 outside."""
    logits = torch.tensor([[math.log(3), 0.0], [-math.log(3), math.log(3)]])
    losses = build()([predict(logits[None])], [Target(torch.tensor([0]), LEFT[None])])
    inside = 0.25 * (0.25**2 * -math.log(0.75) + 0.75**2 * -math.log(0.25))
    outside = 0.75 * (0.5**2 * -math.log(0.5) + 0.75**2 * -math.log(0.25))
    assert losses["loss_mask"].item() == pytest.approx(20 * (inside + outside) / 4, rel=1e-5)
    dice = 1 - (2 * (0.75 + 0.25) + 1) / ((0.75 + 0.5 + 0.25 + 0.75) + 2 + 1)
    assert losses["loss_dice"].item() == pytest.approx(dice, rel=1e-5)


def test_no_object_weighs_a_tenth_in_the_class_loss() -> None:
    logits = torch.tensor([[[2.0, 0.0, -1.0], [0.5, 0.0, 1.0]]])
    masks = torch.stack([torch.where(LEFT, 9.0, -9.0), torch.where(LEFT, -9.0, 9.0)])[None]
    losses = build()([Prediction(logits, masks)], [Target(torch.tensor([0]), LEFT[None])])
    matched, unmatched = -logits[0].log_softmax(-1)[[0, 1], [0, 2]]
    torch.testing.assert_close(losses["loss_ce"], (matched + 0.1 * unmatched) / 1.1)


def test_the_costs_of_a_pair_are_its_losses_at_the_size_of_the_prediction() -> None:
    predictions, targets = random_batch((3, 1), layers=1)
    (prediction,) = predictions
    costs = PixelMatcher().costs(prediction, pack_targets(targets))
    assert costs.shape == (2, 5, 3)
    for image, target in enumerate(targets):
        for column, (class_id, mask) in enumerate(zip(*target, strict=True)):
            nearest = mask[::4, ::4][None]  # from 16 x 24 to 4 x 6
            for query in range(5):
                one = Prediction(*(part[image, query][None, None] for part in prediction))
                losses = build()([one], [Target(class_id[None], nearest)])
                probability = one.class_logits.softmax(-1)[0, 0, class_id]
                expected = losses["loss_mask"] + losses["loss_dice"] - probability
                torch.testing.assert_close(costs[image, query, column], expected)


def test_the_match_is_the_cheapest_of_all_permutations() -> None:
    predictions, targets = random_batch((3, 4), layers=2)
    packed, matcher = pack_targets(targets), PixelMatcher()
    for prediction, match in zip(predictions, matcher(predictions, packed), strict=True):
        costs = matcher.costs(prediction, packed)
        for image, target in enumerate(targets):
            columns = list(range(len(target.class_ids)))
            cheapest = min(
                costs[image, list(queries), columns].sum().item()
                for queries in permutations(range(5), len(columns))
            )
            own = match.image_ids == image
            assert sorted(match.target_ids[own]) == columns
            found = costs[image, match.query_ids[own], match.target_ids[own]].sum().item()
            assert found == pytest.approx(cheapest, abs=1e-5)


def test_predictions_are_upsampled_bilinearly_to_the_targets() -> None:
    coarse = torch.tensor([[4.0, -4.0]])
    fine = torch.tensor([[4.0, 2.0, -2.0, -4.0]])  # without aligned corners
    target = Target(torch.tensor([1]), torch.tensor([[[True, True, False, False]]]))
    upsampled, given = (build()([predict(each[None])], [target]) for each in (coarse, fine))
    for name, loss in given.items():
        torch.testing.assert_close(upsampled[name], loss)


def test_padding_is_background() -> None:
    """A mask that covers padding is wrong there, and the mean is over padded pixels, too."""
    inside = torch.full((1, 4, 4), 30.0)
    padded_target = torch.zeros(1, 4, 8, dtype=torch.bool)
    padded_target[..., :4] = True
    beyond, within = torch.full((1, 4, 8), 30.0), torch.full((1, 4, 8), -30.0)
    within[..., :4] = 30.0
    target = Target(torch.tensor([0]), padded_target)
    right, wrong = (build()([predict(each)], [target]) for each in (within, beyond))
    assert right["loss_mask"].item() == pytest.approx(0.0, abs=1e-6)
    assert wrong["loss_mask"].item() == pytest.approx(20 * 0.75 * 30 / 2, rel=1e-4)
    unpadded = build()([predict(inside)], [Target(target.class_ids, padded_target[..., :4])])
    assert unpadded["loss_dice"].item() == pytest.approx(0.0, abs=1e-6)
    assert wrong["loss_dice"].item() == pytest.approx(1 - 33 / 49, rel=1e-4)


def test_mask_losses_are_divided_by_the_number_of_targets_over_all_processes(monkeypatch) -> None:
    predictions, targets = random_batch((3, 1), layers=1)
    alone = build()(predictions, targets)
    given = build()(predictions, targets, num_targets=8)
    torch.testing.assert_close(given["loss_mask"], alone["loss_mask"] / 2)
    torch.testing.assert_close(given["loss_ce"], alone["loss_ce"])

    def add_the_other_process(total: torch.Tensor) -> None:
        total += 8.0  # so 12 over both, 6 on average

    monkeypatch.setattr(shared.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(shared.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(shared.distributed, "all_reduce", add_the_other_process)
    together = build()(predictions, targets)
    torch.testing.assert_close(together["loss_dice"], alone["loss_dice"] * 4 / 6)


def test_every_layer_is_matched_and_trained_on_its_own() -> None:
    predictions, targets = random_batch(layers=3)
    losses = build()(predictions, targets)
    assert set(losses) == {
        f"loss_{term}{suffix}" for term in ("ce", "mask", "dice") for suffix in ("", "_0", "_1")
    }
    for layer, suffix in enumerate(("_0", "_1", "")):
        alone = build()([predictions[layer]], targets)
        for name, loss in alone.items():
            torch.testing.assert_close(losses[name + suffix], loss)
    last = build(deep_supervision=False)(predictions, targets)
    assert set(last) == {"loss_ce", "loss_mask", "loss_dice"}


def test_a_batch_without_targets_teaches_no_object_and_leaves_masks_alone() -> None:
    predictions, targets = random_batch((0, 0), layers=2)
    losses = build()(predictions, targets)
    assert losses["loss_mask"] == losses["loss_dice_0"] == 0
    sum(losses.values()).backward()
    assert predictions[0].mask_logits.grad.abs().sum() == 0, "zero, not absent"
    assert predictions[0].class_logits.grad.abs().sum() > 0


def test_one_image_without_targets_is_no_obstacle() -> None:
    predictions, targets = random_batch((0, 2), layers=1)
    losses = build()(predictions, targets)
    assert losses["loss_mask"] > 0 and all(loss.isfinite() for loss in losses.values())


def test_half_precision_predictions_are_scored_in_float32() -> None:
    predictions, targets = random_batch(layers=1)
    half = [Prediction(*(part.bfloat16() for part in predictions[0]))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = build()(half, targets)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def test_mistakes_and_divergence_are_named() -> None:
    predictions, targets = random_batch()
    with pytest.raises(ValueError, match="2 images but 1 targets"):
        build()(predictions, targets[:1])
    broken = Prediction(predictions[1].class_logits, predictions[1].mask_logits * math.nan)
    with pytest.raises(FloatingPointError, match="prediction 1"):
        build()([predictions[0], broken, predictions[2]], targets)
