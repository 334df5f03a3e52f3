"""Trains the miniature ViT CLIP of the shapes world, which embeds crops, on named windows.

    python tools/pretrain_shapes_vit.py --out frozenseg/weights/shapes/clip_vit

Tokenizer and text encoder are those of the miniature ConvNeXt CLIP and do not learn; the image
encoder learns to match their captions (locked-text tuning, https://arxiv.org/abs/2111.07991).
open_clip has one activation for both encoders, so the text encoder gets quick GELU too, as in
OpenAI's CLIP: the rows of all names keep a cosine of 0.9999 with those of the ConvNeXt CLIP.

The shipped tower is that of 750 steps, which took 24 minutes on a fifth of a core (``--minutes
24``): the time limit ends the schedule, so that another machine gives another tower. It names 41 %
of new windows among all 252 names. docs/results.md has its accuracy on scenes.

Nothing is masked, as in the photographs that the original CLIP has seen. What masked crops cost,
and what ``frozenseg adapt-clip`` regains, is the subject of OVSeg.
"""

import copy
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from open_clip import CLIP
from pretrain_shapes_clip import (
    CONFIG as CONVNEXT_CONFIG,
)
from pretrain_shapes_clip import (
    SUBJECTS,
    TEMPLATES,
    draw_subjects,
    kind_of,
    name_of,
    normalize,
    text_classifier,
)
from pretraining_loop import (
    Schedule,
    apply_gradients,
    console,
    train,
    write_bytes,
    write_half_precision,
)
from torch import Tensor

from frozenseg.data.shapes.dataset import ShapesDataset
from frozenseg.data.shapes.windows import render_window
from frozenseg.data.shapes.words import Thing, stuff_of, things_of
from frozenseg.ops.region_crops import masked_crops
from frozenseg.structures import Sample, boxes_of
from frozenseg.towers.clip_folder import (
    CONFIG_NAME,
    MERGES_NAME,
    WEIGHTS_NAME,
    load_clip_folder,
    load_tokenizer,
)
from frozenseg.towers.clip_vit import CropClip
from frozenseg.towers.loading import SHAPES
from frozenseg.towers.vit_loading import load_crop_clip
from frozenseg.training.pair_batches import random_box, resized_part

CROP = 48  # pixels, 6 x 6 patches
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": CONVNEXT_CONFIG["model_cfg"]["embed_dim"],
        "quick_gelu": True,  # as in OpenAI's CLIP
        "vision_cfg": {
            "image_size": CROP,
            "patch_size": 8,
            "width": 96,
            "layers": 4,
            "head_width": 32,
        },
        "text_cfg": CONVNEXT_CONFIG["model_cfg"]["text_cfg"],
    },
    "preprocess_cfg": CONVNEXT_CONFIG["preprocess_cfg"],
}
THING_WINDOWS = (64, 96)  # pixels; a segment's crop is 44 to 120 wide
GROUND_WINDOWS = (64, 96, 160, 224)


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    steps: Annotated[int, typer.Option(help="Training steps.")] = 3000,
    minutes: Annotated[float, typer.Option(help="Time limit.")] = 35.0,
    batch_size: Annotated[int, typer.Option(help="Windows per step.")] = 128,
    views: Annotated[int, typer.Option(help="Windows to draw of each name.")] = 64,
    learning_rate: float = 1.5e-3,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    resume: Annotated[bool, typer.Option(help="Resume from the last checkpoint in OUT.")] = False,
) -> None:
    """Trains the image encoder, prints its accuracy, and writes the folder."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(SHAPES / "clip" / MERGES_NAME, out)
    model, tokenizer = with_text_encoder_of_convnext(), load_tokenizer(out, CONFIG)
    captions = caption_rows(model, tokenizer)
    pool = draw_pool(np.random.default_rng(seed), views)

    def step_on_batch(
        optimizer: torch.optim.Optimizer, rng: np.random.Generator, step: int
    ) -> tuple[float, float]:
        return train_step(model, optimizer, *draw_batch(rng, pool, batch_size), captions(rng))

    checkpoint = out / "checkpoint.pt"
    train(
        model,
        step_on_batch,
        schedule=Schedule(steps, minutes, learning_rate),
        seed=seed,
        checkpoint=checkpoint,
        resume=resume,
        measure="accuracy",
        evaluate=lambda: evaluate(crop_clip(model, tokenizer), num_scenes=40),
    )
    write_bytes(out / CONFIG_NAME, (json.dumps(CONFIG, indent=2) + "\n").encode())
    write_half_precision(out / WEIGHTS_NAME, model)
    rounded = load_crop_clip(str(out), "")  # the weights are stored in float16
    console.log(evaluate(rounded, num_scenes=200))
    checkpoint.unlink(missing_ok=True)


def with_text_encoder_of_convnext() -> CLIP:
    """Returns a ViT CLIP whose text half is trained and does not learn."""
    convnext, _ = load_clip_folder(SHAPES / "clip")
    model = CLIP(**CONFIG["model_cfg"])
    text = {k: v for k, v in convnext.state_dict().items() if not k.startswith("visual.")}
    missing, unexpected = model.load_state_dict(text, strict=False)
    assert not unexpected and all(name.startswith("visual.") for name in missing)
    model.requires_grad_(False)
    model.visual.requires_grad_(True)
    model.logit_scale.requires_grad_(True)
    return model


def caption_rows(model: CLIP, tokenizer: Any) -> Callable[[np.random.Generator], Tensor]:
    """Returns a function that draws one template and returns the (K, D) rows of all names in it."""
    names = [name_of(subject) for subject in SUBJECTS]
    with torch.no_grad():
        rows = torch.stack(
            [
                F.normalize(model.encode_text(tokenizer([t.format(n) for n in names])), dim=-1)
                for t in TEMPLATES
            ]
        )
    return lambda rng: rows[rng.integers(len(rows))]


def draw_pool(rng: np.random.Generator, views: int) -> np.ndarray:
    """Draws (K, V, S, S, 3) crops, V of each name; drawing costs more than a step on a crop."""
    return np.stack([[draw_crop(rng, subject) for _ in range(views)] for subject in SUBJECTS])


def draw_batch(
    rng: np.random.Generator, pool: np.ndarray, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Draws (B, 3, S, S) normalised crops of distinct names, half of them mirrored, and names."""
    subjects = draw_subjects(rng, batch_size)
    crops = pool[subjects, rng.integers(pool.shape[1], size=batch_size)]
    mirrored = rng.random(batch_size) < 0.5
    crops[mirrored] = crops[mirrored, :, ::-1]
    return normalize(crops), torch.from_numpy(subjects)


def draw_crop(rng: np.random.Generator, subject: Thing | str) -> np.ndarray:
    """A (S, S, 3) random part of a window around a thing, or on a ground."""
    sizes = GROUND_WINDOWS if isinstance(subject, str) else THING_WINDOWS
    size = int(rng.choice(sizes))
    window = torch.from_numpy(render_window(rng, subject, size)).permute(2, 0, 1)
    box, everything = random_box((size, size), rng), torch.ones(size, size, dtype=torch.bool)
    crop, _ = resized_part(window, everything, box, (CROP, CROP))
    return crop.permute(1, 2, 0).numpy()


def train_step(
    model: CLIP,
    optimizer: torch.optim.Optimizer,
    crops: Tensor,
    subjects: Tensor,
    captions: Tensor,
) -> tuple[float, float]:
    """One step towards the captions among those of all names; the loss and the accuracy."""
    model.train()
    embeddings = F.normalize(model.encode_image(crops), dim=-1)
    logits = model.logit_scale.exp() * embeddings @ captions.T
    loss = F.cross_entropy(logits, subjects)
    apply_gradients(model, optimizer, loss)
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(100))
    return loss.item(), (logits.argmax(1) == subjects).float().mean().item()


def crop_clip(model: CLIP, tokenizer: Any) -> CropClip:
    return CropClip(copy.deepcopy(model).eval(), tokenize=tokenizer)  # a tower freezes its model


@torch.no_grad()
def evaluate(clip: CropClip, num_scenes: int) -> str:
    """Accuracy on new windows among all names, and on segments of validation scenes, in boxes."""
    rng = np.random.default_rng(123_456_789)
    all_names = [name_of(subject) for subject in SUBJECTS]
    windows = normalize(np.stack([draw_crop(rng, subject) for subject in SUBJECTS]))
    guesses = guess(clip, windows, text_classifier(clip.model, clip.tokenize, all_names))
    top1 = (guesses == torch.arange(len(SUBJECTS))).float().mean().item()
    names = [thing.name for thing in things_of("val")] + list(stuff_of("val"))
    rows = text_classifier(clip.model, clip.tokenize, names)
    hits: dict[tuple[bool, str], list[bool]] = {}
    for sample in ShapesDataset("val", size=num_scenes):
        for masked in (False, True):
            crops, class_ids = segment_crops(sample, masked=masked)
            for class_id, found in zip(class_ids, guess(clip, crops, rows), strict=True):
                hits.setdefault((masked, kind_of(class_id)), []).append(class_id == found.item())
    shares = ", ".join(
        f"{'masked' if masked else 'whole'} {kind} {np.mean(hits[masked, kind]):.3f}"
        for masked, kind in sorted(hits)
    )
    return f"windows top-1 {top1:.3f}; true segments: {shares}"


def guess(clip: CropClip, crops: Tensor, rows: Tensor) -> Tensor:
    """The (N,) most similar of the (K, D) rows to each crop."""
    return (clip.embed_crops(crops) @ rows.T).argmax(1)


def segment_crops(sample: Sample, *, masked: bool) -> tuple[Tensor, list[int]]:
    """Crops of the boxes of a scene's segments, with or without what is outside their masks."""
    panoptic = sample.panoptic
    assert panoptic is not None, "every scene is annotated"
    ids = torch.tensor([segment.id for segment in panoptic.segments])
    masks = panoptic.ids == ids[:, None, None]
    pixels = normalize(sample.image.permute(1, 2, 0)[None].numpy())[0]
    shown = masks if masked else torch.ones_like(masks)
    crops = masked_crops(pixels, shown, boxes_of(masks), (CROP, CROP))
    return crops, [segment.class_id for segment in panoptic.segments]


if __name__ == "__main__":
    typer.run(main)
