"""Trains the miniature CLIP of the shapes world: named windows of scenes against their captions.

    python tools/pretrain_shapes_clip.py --out frozenseg/weights/shapes/clip

Every batch holds distinct names, so no caption is a negative of its own kind. All words of the world occur, seen
and unseen in segmentation alike, as the real CLIP has met all words. See ``--help`` for seeds and budgets.
"""

import copy
import gzip
import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import open_clip.tokenizer
import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn

from frozenseg.data.shapes.dataset import ShapesDataset
from frozenseg.data.shapes.windows import render_window
from frozenseg.data.shapes.words import (
    ALL_THINGS,
    SEEN_STUFF,
    SEEN_THINGS,
    STUFF,
    Thing,
    stuff_of,
    things_of,
)
from frozenseg.modeling.clip import PIXEL_MEAN, PIXEL_STD, ConvNeXtClip
from frozenseg.modeling.clip_folder import (
    CONFIG_NAME,
    MERGES_NAME,
    WEIGHTS_NAME,
    build_clip,
    load_clip_folder,
    load_tokenizer,
)

NUM_MERGES = 2000
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        "vision_cfg": {
            "timm_model_name": "convnext_shapes",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "mlp",
            "image_size": 256,
        },
        "text_cfg": {
            "context_length": 24,
            "vocab_size": 512 + NUM_MERGES + 2,
            "width": 96,
            "heads": 4,
            "layers": 3,
        },
    },
    # Kernels shrink with the stride: a thing is two to four cells of the last stage wide.
    "timm_convnext": {
        "depths": [2, 2, 4, 2],
        "dims": [24, 48, 96, 192],
        "kernel_sizes": [7, 7, 5, 3],
        "ls_init_value": None,
    },
    "preprocess_cfg": {
        "mean": [round(value / 255, 8) for value in PIXEL_MEAN],
        "std": [round(value / 255, 8) for value in PIXEL_STD],
    },
}
TEMPLATES = (
    "{}",
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)
SUBJECTS: tuple[Thing | str, ...] = (*ALL_THINGS, *STUFF)
GROUNDS_PER_BATCH = 10
WARMUP_STEPS = 200
console = Console()


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    steps: Annotated[int, typer.Option(help="Training steps.")] = 5000,
    minutes: Annotated[float, typer.Option(help="End after this time at the latest.")] = 45.0,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    window_size: Annotated[int, typer.Option(help="Side of the windows, pixels.")] = 96,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in OUT.")] = False,
) -> None:
    """Trains, reports what the tower can tell apart, and writes the folder."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    write_merges(out / MERGES_NAME)
    model = build_clip(CONFIG).to(memory_format=torch.channels_last)
    tokenizer = load_tokenizer(out, CONFIG)
    optimizer = build_optimizer(model, learning_rate)
    checkpoint = out / "checkpoint.pt"
    first = load_checkpoint(checkpoint, model, optimizer) if resume else 0

    start = saved = time.monotonic()
    for step in range(first, steps):
        elapsed = (time.monotonic() - start) / 60
        progress = max(step / steps, elapsed / minutes)  # of the schedule
        if progress >= 1:
            break
        set_learning_rate(optimizer, learning_rate * learning_rate_factor(step, progress))
        rng = np.random.default_rng((seed, step))
        images, texts = draw_batch(rng, tokenizer, batch_size, window_size)
        loss, accuracy = train_step(model, optimizer, images, texts)
        if step % 50 == 0:
            done = step - first + 1
            left = elapsed / done * (steps - step)
            console.log(
                f"step {step}/{steps} loss {loss:.3f} batch accuracy {accuracy:.3f} "
                f"{elapsed:.1f} min, about {left:.0f} min left"
            )
        if step % 500 == 499:
            console.log(evaluate(model, tokenizer, num_scenes=40))
        if time.monotonic() - saved > 120:
            save_checkpoint(checkpoint, model, optimizer, step + 1)
            saved = time.monotonic()

    write_folder(out, model)
    model, tokenizer = load_clip_folder(out)  # rounded to float16 from here on
    console.log(evaluate(model, tokenizer, num_scenes=200))
    console.log(evaluate(model, tokenizer, num_scenes=200, scale=1.5))
    checkpoint.unlink(missing_ok=True)


def write_merges(path: Path) -> None:
    """A prefix of the merges of CLIP's tokenizer: every word still has tokens, the table is small."""
    text = gzip.decompress(Path(open_clip.tokenizer.default_bpe()).read_bytes()).decode()
    lines = text.split("\n")[: 1 + NUM_MERGES]
    replace_file(path, gzip.compress("\n".join(lines).encode(), mtime=0))


def build_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW without decay on norms, biases, embeddings of positions and the temperature."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))


def learning_rate_factor(step: int, progress: float) -> float:
    """Linear warm-up, then half a cosine to zero."""
    return min(1, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def draw_batch(
    rng: np.random.Generator, tokenizer: Any, batch_size: int, window_size: int
) -> tuple[Tensor, Tensor]:
    """Normalised windows (B, 3, S, S) of distinct names, and the tokens of one caption each."""
    things = rng.choice(len(ALL_THINGS), batch_size - GROUNDS_PER_BATCH, replace=False)
    grounds = len(ALL_THINGS) + rng.choice(len(STUFF), GROUNDS_PER_BATCH, replace=False)
    subjects = [SUBJECTS[index] for index in (*things, *grounds)]
    windows = np.stack([render_window(rng, subject, window_size) for subject in subjects])
    captions = [TEMPLATES[rng.integers(len(TEMPLATES))].format(name_of(s)) for s in subjects]
    return normalize(windows), tokenizer(captions)


def name_of(subject: Thing | str) -> str:
    return subject if isinstance(subject, str) else subject.name


def normalize(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 to the tower's input (B, 3, H, W)."""
    pixels = torch.from_numpy(images).float()
    pixels = (pixels - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    return pixels.permute(0, 3, 1, 2)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, texts: Tensor
) -> tuple[float, float]:
    """One step of CLIP's symmetric loss; returns it and the share of windows that chose their caption."""
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        image_embeddings = model.encode_image(images)
        text_embeddings = model.encode_text(texts)
    image_embeddings = F.normalize(image_embeddings.float(), dim=-1)
    text_embeddings = F.normalize(text_embeddings.float(), dim=-1)
    logits = model.logit_scale.exp() * image_embeddings @ text_embeddings.T
    own = torch.arange(len(images))
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(100))
    return loss.item(), (logits.argmax(1) == own).float().mean().item()


@torch.no_grad()
def text_classifier(model: nn.Module, tokenizer: Any, names: list[str]) -> Tensor:
    """One normalised row per name, the mean over the fourteen templates: (K, D)."""
    prompts = [template.format(name) for name in names for template in TEMPLATES[1:]]
    embeddings = torch.cat([model.encode_text(part) for part in tokenizer(prompts).split(256)])
    embeddings = F.normalize(embeddings, dim=-1).unflatten(0, (len(names), -1))
    return F.normalize(embeddings.mean(1), dim=-1)


@torch.no_grad()
def evaluate(model: nn.Module, tokenizer: Any, num_scenes: int, scale: float = 1.0) -> str:
    """Accuracy on new windows among all names, and on mask-pooled segments of validation scenes."""
    model.eval()
    all_rows = text_classifier(model, tokenizer, [name_of(subject) for subject in SUBJECTS])
    rng = np.random.default_rng(123_456_789)
    windows = normalize(np.stack([render_window(rng, subject) for subject in SUBJECTS]))
    correct = (model.encode_image(windows) @ all_rows.T).argmax(1) == torch.arange(len(SUBJECTS))
    top1 = correct.float().mean().item()

    names = [thing.name for thing in things_of("val")] + list(stuff_of("val"))
    rows = text_classifier(model, tokenizer, names)
    tower = ConvNeXtClip(copy.deepcopy(model), tokenize=tokenizer)  # a tower freezes its model
    hits: dict[str, list[bool]] = {}
    for sample in ShapesDataset("val", size=num_scenes):
        image = normalize(sample.image.permute(1, 2, 0)[None].numpy())
        image = F.interpolate(image, scale_factor=scale, mode="bilinear") if scale != 1 else image
        ids = torch.tensor([segment.id for segment in sample.panoptic.segments])
        logits = (sample.panoptic.ids == ids[:, None, None]).float() * 2 - 1
        logits = F.interpolate(logits[None], size=(64, 64), mode="area")
        regions = tower.embed_regions(tower(image).dense, logits)[0]
        for segment, guess in zip(
            sample.panoptic.segments, (regions @ rows.T).argmax(1).tolist(), strict=True
        ):
            hits.setdefault(kind_of(segment.class_id), []).append(guess == segment.class_id)
    shares = ", ".join(f"{kind} {np.mean(hits[kind]):.3f}" for kind in sorted(hits))
    return f"windows top-1 {top1:.3f}; pooled segments at {256 * scale:.0f} px: {shares}"


def kind_of(class_id: int) -> str:
    """Whether a validation class is thing or stuff, seen or unseen."""
    num_things = len(things_of("val"))
    if class_id < num_things:
        return "seen things" if class_id < len(SEEN_THINGS) else "unseen things"
    return "seen stuff" if class_id - num_things < len(SEEN_STUFF) else "unseen stuff"


def write_folder(out: Path, model: nn.Module) -> None:
    """Config and float16 weights, each replaced at once."""
    replace_file(out / CONFIG_NAME, (json.dumps(CONFIG, indent=2) + "\n").encode())
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    part = out / (WEIGHTS_NAME + ".part")
    save_file(state, part)
    part.replace(out / WEIGHTS_NAME)


def replace_file(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    part = path.with_name(path.name + ".part")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores both and returns the next step."""
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


if __name__ == "__main__":
    typer.run(main)
