"""Builds the adaptation of CLIP to masked regions: fine-tuning and mask prompt tuning."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from frozenseg.builders.trainer import CHECKPOINTS, choose_seed, file_writers, saved_state
from frozenseg.data.pairs import pair_lines, read_pairs
from frozenseg.errors import UserError
from frozenseg.io.safetensors_files import write_safetensors
from frozenseg.runtime.distributed import (
    is_main_process,
    num_processes,
    process_rank,
    share_weights,
)
from frozenseg.runtime.random_state import seed_everything
from frozenseg.towers.clip_vit import CropClip, Part
from frozenseg.towers.vit_loading import load_crop_clip
from frozenseg.training.checkpoints import Checkpoint, CheckpointFolder, check_same_towers
from frozenseg.training.pair_batches import AugmentedPairs, pair_batches
from frozenseg.training.pair_step import PairStep, build_pair_optimizer
from frozenseg.training.sampler import InfiniteSampler
from frozenseg.training.schedule import cosine_after_warmup
from frozenseg.training.trainer import Trainer
from frozenseg.training.training_state import restore_state

FINAL_CLIP = "clip_final.safetensors"

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class AdaptationSettings:
    """Settings of one adaptation.

    Args:
        pairs: the list of pairs.
        output: folder of the run.
        part: what learns besides CLIP's temperature: the image encoder or the mask prompts.
        clip: an open_clip model or a folder (``load_crop_clip``).
        clip_weights: to start from: a tag, a file, or ``random``.
        mask_prompt_depth: of the prompts, if these learn.
        lr: learning rate before the schedule.
        weight_decay: of parameters of at least two dimensions.
        epochs: passes over the pairs.
        warmup: iterations of linear warm-up.
        batch_size: pairs per update, over all processes.
        precision: of the image encoder.
        checkpoint_period: updates between checkpoints; 0: only at the end.
        num_workers: data-loading processes of each process.
        seed: negative: choose one.
        device: "auto", "cpu", "cuda" or one device.
    """

    pairs: Path
    output: Path
    part: Part
    clip: str
    clip_weights: str
    mask_prompt_depth: int
    lr: float
    weight_decay: float
    epochs: int
    warmup: int
    batch_size: int
    precision: Precision
    checkpoint_period: int
    num_workers: int
    seed: int
    device: str


def build_adaptation(
    settings: AdaptationSettings, *, device: torch.device, resume: bool = False
) -> Trainer:
    """Builds an adaptation that is ready to run. Collective.

    Args:
        settings: of the run.
        device: of this process.
        resume: continue from the newest checkpoint.

    Raises:
        UserError: the pairs, the CLIP, the batch size or the output folder do not allow it.
    """
    batch_size = _batch_share(settings.batch_size)
    pairs = read_pairs(settings.pairs)
    num_iterations = settings.epochs * max(1, len(pairs) // settings.batch_size)
    checkpoints = CheckpointFolder(settings.output / CHECKPOINTS)
    saved = saved_state(
        checkpoints,
        resume=resume,
        num_iterations=num_iterations,
        limit="the end (--epochs)",
    )
    seed = choose_seed(settings.seed, saved)
    seed_everything(seed)
    clip = _starting_clip(settings, device)
    digest = hashlib.sha256(pair_lines(pairs).encode()).hexdigest()[:16]
    about = {"clip": clip.fingerprint, "clip_name": clip.name, "pairs": digest, "seed": str(seed)}
    clip.unfreeze(settings.part)
    step = PairStep(
        model=clip,
        optimizer=build_pair_optimizer(clip, lr=settings.lr, weight_decay=settings.weight_decay),
        titles=(pair.title for pair in pairs),
        device=device,
        autocast=_autocast_type(settings.precision),
    )
    if saved is not None:
        _check_same_run(saved, about, settings)
        restore_state(step, saved)
    start = 0 if saved is None else saved.iteration
    samples_seen = 0 if saved is None else saved.numbers["samples_seen"]
    order = InfiniteSampler(
        len(pairs), seed=seed, rank=process_rank(), world_size=num_processes(), start=samples_seen
    )
    read = AugmentedPairs(settings.pairs, pairs, size=clip.image_size, seed=seed)
    return Trainer(
        step=step,
        batches=pair_batches(
            read, order=order, batch_size=batch_size, num_workers=settings.num_workers
        ),
        schedule=cosine_after_warmup(num_iterations=num_iterations, warmup=settings.warmup),
        num_iterations=num_iterations,
        checkpoints=checkpoints,
        checkpoint_period=settings.checkpoint_period,
        writers=file_writers(settings.output, start) if is_main_process() else (),
        about=lambda: about,
        start=start,
        samples_seen=samples_seen,
        unlogged=None if saved is None else saved.numbers.get("unlogged"),
    )


def save_clip(trainer: Trainer, folder: Path) -> Path:
    """Writes the whole adapted CLIP under its published names, as ``load_crop_clip`` reads it.

    Raises:
        UserError: the file cannot be written.
    """
    clip, path = trainer.step.model, folder / FINAL_CLIP
    assert isinstance(clip, CropClip), "build_adaptation trains a CropClip"
    write_safetensors(clip.published_state(), path, trainer.about())
    return path


def _starting_clip(settings: AdaptationSettings, device: torch.device) -> CropClip:
    """Returns the CLIP to start from, equal on every rank; new prompts if it has none."""
    depth = settings.mask_prompt_depth if settings.part == "prompts" else 0
    clip = load_crop_clip(
        settings.clip, settings.clip_weights, mask_prompt_depth=depth, new_prompts=True
    ).to(device)
    share_weights(clip.parameters())
    return clip


def _batch_share(batch_size: int) -> int:
    if batch_size % num_processes() or batch_size < 2:
        raise UserError(
            f"--batch-size is {batch_size}, which {num_processes()} processes cannot share "
            "equally: give a multiple of their number, at least 2"
        )
    return batch_size // num_processes()


def _check_same_run(
    saved: Checkpoint, about: Mapping[str, str], settings: AdaptationSettings
) -> None:
    """Refuses to resume with another CLIP or other pairs."""
    check_same_towers(saved.about, {"clip": about["clip"]}, source=str(settings.output))
    if saved.about.get("pairs") != about["pairs"]:
        raise UserError(
            f"{settings.pairs} holds other pairs than the run in {settings.output} began with: "
            "restore that list, or start a new run in another --output"
        )


def _autocast_type(precision: Precision) -> torch.dtype | None:
    return None if precision == "float32" else getattr(torch, precision)
