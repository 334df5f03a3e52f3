"""Fine-tuning and mask prompt tuning of a tiny ViT on pairs of coloured squares."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor

from frozenseg.data.augmentation import Box
from frozenseg.data.pairs import Pair, read_pairs, write_crop, write_pairs
from frozenseg.errors import UserError
from frozenseg.losses.contrastive import clip_loss
from frozenseg.runtime.distributed import num_processes, process_rank
from frozenseg.runtime.launch import Group, launch
from frozenseg.towers.clip_vit import CropClip, Part
from frozenseg.training.checkpoints import CheckpointFolder
from frozenseg.training.divergence import Diverged
from frozenseg.training.pair_batches import (
    AugmentedPairs,
    PairBatch,
    pair_batches,
    random_box,
    resized_part,
)
from frozenseg.training.pair_step import MAX_LOG_SCALE, PairStep, build_pair_optimizer
from frozenseg.training.sampler import InfiniteSampler
from frozenseg.training.schedule import cosine_after_warmup
from frozenseg.training.trainer import Trainer
from frozenseg.training.training_state import restore_state
from tests.fixtures.ovseg import TINY_TEXT, TINY_VIT

CPU = torch.device("cpu")
TWO = Group(num_gpus=2, timeout=timedelta(seconds=60))
SIDE, BATCH = 12, 4
COLORS = {"rose": (220, 30, 60), "leaf": (30, 200, 60), "sea": (20, 60, 220), "sun": (250, 220, 0)}


def write_squares(folder: Path, count: int = 8) -> Path:
    """Pairs of a square, whose mask leaves out its left half, and the noun of its colour."""
    pairs = []
    for number in range(count):
        noun = list(COLORS)[number % len(COLORS)]
        crop = torch.tensor(COLORS[noun], dtype=torch.uint8)[:, None, None].repeat(1, 20, 20)
        mask = torch.ones(20, 20, dtype=torch.bool)
        mask[:, :10] = False
        crop[:, ~mask] = 110 + number
        pairs.append(Pair(f"crops/{number}.png", f"masks/{number}.png", noun))
        write_crop(folder, pairs[-1].filepath, pairs[-1].mask, crop, mask)
    write_pairs(folder / "pairs.tsv", pairs)
    return folder / "pairs.tsv"


def tiny_clip(*, depth: int = 2) -> CropClip:
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=8, vision_cfg=TINY_VIT, text_cfg=TINY_TEXT, quick_gelu=True)
    tokenize = open_clip.SimpleTokenizer(context_length=16)
    return CropClip(model, tokenize=tokenize, mask_prompt_depth=depth, name="a tiny ViT")


def step_of(part: Part, *, lr: float = 0.01, autocast: torch.dtype | None = None) -> PairStep:
    clip = tiny_clip()
    clip.unfreeze(part)
    optimizer = build_pair_optimizer(clip, lr=lr, weight_decay=0.2)
    return PairStep(model=clip, optimizer=optimizer, titles=COLORS, device=CPU, autocast=autocast)


def batches_of(path: Path, *, start: int = 0) -> Iterator[PairBatch]:
    """This process's share of batches of four."""
    pairs = read_pairs(path)
    order = InfiniteSampler(
        len(pairs), seed=3, rank=process_rank(), world_size=num_processes(), start=start
    )
    read = AugmentedPairs(path, pairs, size=(SIDE, SIDE), seed=3)
    return pair_batches(read, order=order, batch_size=BATCH // num_processes())


def trainer_of(step: PairStep, path: Path, folder: Path, **changes: object) -> Trainer:
    settings: dict = {
        "batches": batches_of(path),
        "schedule": cosine_after_warmup(num_iterations=6, warmup=2),
        "num_iterations": 6,
        "checkpoints": CheckpointFolder(folder),
    }
    return Trainer(step=step, **(settings | changes))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_squares(tmp_path / "pairs")


def changed(before: dict[str, Tensor], clip: CropClip) -> set[str]:
    after = clip.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def snapshot(clip: CropClip) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in clip.state_dict().items()}


def test_mask_prompt_tuning_changes_prompts_and_scale_only(pairs: Path) -> None:
    step = step_of("prompts")
    before = snapshot(step.model)
    step([next(batches_of(pairs))])
    assert changed(before, step.model) == {"mask_prompts", "model.logit_scale"}


def test_fine_tuning_changes_the_image_tower_and_the_scale_only(pairs: Path) -> None:
    step = step_of("image")
    before = snapshot(step.model)
    step([next(batches_of(pairs))])
    names = changed(before, step.model)
    assert {"model.logit_scale", "model.visual.proj", "model.visual.conv1.weight"} <= names
    assert all(name == "model.logit_scale" or "visual" in name for name in names)


def test_the_loss_is_that_of_the_masked_crops_and_the_bare_titles(pairs: Path) -> None:
    step, batch = step_of("prompts"), next(batches_of(pairs))
    clip = step.model
    pixels = clip.normalize(list(batch.images), (SIDE, SIDE))
    images = torch.nn.functional.normalize(clip.embed_crops(pixels, batch.masks), dim=-1)
    texts = torch.nn.functional.normalize(clip.encode_text(batch.titles), dim=-1)
    torch.testing.assert_close(step.loss(batch), clip_loss(images, texts, clip.logit_scale))


@pytest.mark.parametrize("part", ["image", "prompts"])
def test_training_lowers_the_loss(pairs: Path, part: Part) -> None:
    step, batches = step_of(part, lr=0.02), batches_of(pairs)
    losses = [step([next(batches)])["total_loss"].item() for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_only_matrices_decay_and_the_scale_stays_in_its_range(pairs: Path) -> None:
    step = step_of("image")
    decays = {p: group["weight_decay"] for group in step.optimizer.param_groups
              for p in group["params"]}  # fmt: skip
    for name, parameter in step.model.named_parameters():
        if parameter.requires_grad:
            assert decays[parameter] == (0.2 if parameter.dim() > 1 else 0.0), name
    group = step.optimizer.param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.9, 0.98), 1e-6)
    with torch.no_grad():
        step.model.model.logit_scale.fill_(9.0)
    step([next(batches_of(pairs))])
    assert step.model.model.logit_scale.item() == pytest.approx(MAX_LOG_SCALE)


def test_a_loss_that_is_not_finite_ends_the_run(pairs: Path) -> None:
    step = step_of("prompts")
    with torch.no_grad():
        step.model.mask_prompts.fill_(torch.nan)
    with pytest.raises(Diverged, match=r"crops/\d.png.*lower --lr"):
        step([next(batches_of(pairs))])


def test_mixed_precision_is_near_float32(pairs: Path) -> None:
    batch = next(batches_of(pairs))
    exact, rounded = (step_of("image", autocast=t).loss(batch) for t in (None, torch.bfloat16))
    assert exact.item() != rounded.item()
    assert exact.item() == pytest.approx(rounded.item(), rel=0.02)


def test_a_resumed_run_equals_an_uninterrupted_one(pairs: Path, tmp_path: Path) -> None:
    whole = step_of("prompts")
    assert trainer_of(whole, pairs, tmp_path / "whole").run()
    trainer_of(step_of("prompts"), pairs, tmp_path / "parts", num_iterations=3).run()
    saved = CheckpointFolder(tmp_path / "parts").newest()
    assert saved is not None and set(saved.weights) == {"mask_prompts", "model.logit_scale"}
    step = step_of("prompts")
    restore_state(step, saved)
    seen = saved.numbers["samples_seen"]
    resumed = trainer_of(
        step, pairs, tmp_path / "parts",
        start=3, samples_seen=seen, batches=batches_of(pairs, start=seen),
    )  # fmt: skip
    assert resumed.run()
    assert torch.equal(step.model.mask_prompts, whole.model.mask_prompts)
    assert torch.equal(step.model.model.logit_scale, whole.model.model.logit_scale)


def save_update(path: Path, out: Path) -> int:
    """One update of this process's share; the main process stores gradients and loss."""
    torch.set_num_threads(1)
    step = step_of("image", lr=0.0)
    result = step([next(batches_of(path))])
    gradients = {n: p.grad for n, p in step.model.named_parameters() if p.grad is not None}
    if process_rank() == 0:
        torch.save({"loss": result["total_loss"], **gradients}, out)
    return 0


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradient_of_one(pairs: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    save_update(pairs, one)
    assert launch(save_update, (pairs, two), group=TWO, device="cpu") == 0
    ours, theirs = torch.load(two), torch.load(one)
    assert set(ours) == set(theirs) and len(ours) > 20
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=name)


class TestAugmentation:
    def test_boxes_keep_most_of_the_area_and_a_mild_ratio(self) -> None:
        boxes = [random_box((200, 200), np.random.default_rng(seed)) for seed in range(300)]
        areas = [(b.bottom - b.top) * (b.right - b.left) / 200**2 for b in boxes]
        ratios = [(b.right - b.left) / (b.bottom - b.top) for b in boxes]
        assert min(areas) > 0.89 and max(areas) <= 1
        assert 0.89 < min(ratios) < 0.92 and 1.08 < max(ratios) < 1.12  # a square holds no more
        assert all(b.top >= 0 and b.bottom <= 200 and b.left >= 0 and b.right <= 200 for b in boxes)

    def test_crop_and_mask_are_cut_alike(self) -> None:
        mask = torch.zeros(20, 20, dtype=torch.bool)
        mask[:, 8:] = True
        crop = mask.to(torch.uint8).mul(200).repeat(3, 1, 1)
        pixels, inside = resized_part(crop, mask, Box(0, 4, 20, 20), (8, 8))
        assert inside[:, 2:].all() and not inside[:, :2].any()
        assert (pixels[0, :, 4:] == 200).all() and (pixels[0, :, 0] == 0).all()

    def test_a_missing_crop_is_one_sentence(self, pairs: Path) -> None:
        (pairs.parent / "crops/3.png").unlink()
        batches = batches_of(pairs)
        with pytest.raises(UserError, match=r"pairs.tsv names the crop 'crops/3.png', which does"):
            for _ in range(2):
                next(batches)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    schedule: Callable[[int], float] = cosine_after_warmup(num_iterations=110, warmup=10)
    assert [schedule(i) for i in (0, 9, 10, 60, 110)] == pytest.approx([0.1, 1, 1, 0.5, 0])
