#!/usr/bin/env python
"""Times OVSeg's region classifier against its ViT alone, and bfloat16 against float32.

    python tools/benchmarks/masked_crops.py --masks 100

One image of 512 x 683 pixels with overlapping discs for masks. "ViT alone" encodes as many
ready-made crops in batches of the same size. bfloat16 is compared with float32 on class maps of
random text rows; it is timed also where the processor only emulates it. Seconds on a CPU are the
processor's, so that other work on the machine matters little. Prints a table, or JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from frozenseg.inference.semantic import class_maps
from frozenseg.pipeline.fusion.product import Product
from frozenseg.pipeline.region_classifiers.masked_crops import LOGIT_SCALE, MaskedCrops
from frozenseg.runtime.reduced_precision import bfloat16_is_fast
from frozenseg.structures import Frame, InputImage, Proposals
from frozenseg.towers.clip_vit import CropClip
from frozenseg.towers.vit_loading import load_crop_clip

IMAGE = (512, 683)  # height and width, pixels
PADDED = (512, 704)
NUM_CLASSES = 150
Figures = dict[str, float | str | bool]


def benchmark_masked_crops(
    *,
    clip: CropClip,
    num_masks: int = 100,
    repeats: int = 3,
    device: torch.device,
    bfloat16: bool = True,
) -> Figures:
    """Measures medians over ``repeats`` runs, in seconds.

    Args:
        clip: the tower.
        num_masks: masks of the image, all valid.
        repeats: runs of each part.
        device: where all of it runs.
        bfloat16: measure bfloat16 too.
    """
    image, proposals = _inputs(num_masks, device)
    classifier = MaskedCrops(clip=clip.to(device))
    crops = classifier.crop(image, proposals)
    assert len(crops.pixels) == num_masks, "every mask of the benchmark is valid"
    # in turn, so that other work on the machine slows all of them alike
    parts: dict[str, Callable[[], object]] = {
        "crops": lambda: classifier.crop(image, proposals),
        "vit_alone": lambda: _vit_alone(classifier, crops.pixels),
        "crops_and_vit": lambda: classifier(image, proposals).embeddings,
    }
    if bfloat16:
        rounded = MaskedCrops(clip=clip, precision="bfloat16")
        parts["crops_and_vit_bfloat16"] = lambda: rounded(image, proposals).embeddings
    seconds, results = _time_in_turn(parts, repeats, device)
    figures: Figures = {
        "device": _name(device),
        "bfloat16_is_fast": bfloat16_is_fast(device),
        "masks": num_masks,
        "threads": torch.get_num_threads(),
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "over_vit_alone": seconds["crops_and_vit"] / seconds["vit_alone"],
    }
    if bfloat16:
        figures["bfloat16_speedup"] = seconds["crops_and_vit"] / seconds["crops_and_vit_bfloat16"]
        masks = classifier.binary_masks(image, proposals).float()
        figures |= _agreement(results["crops_and_vit"], results["crops_and_vit_bfloat16"], masks)
    return figures


def _inputs(num_masks: int, device: torch.device) -> tuple[InputImage, Proposals]:
    """Returns an image of soft coloured patches and masks at stride 4: discs of all sizes."""
    draw = torch.Generator().manual_seed(0)
    patches = 255 * torch.rand(1, 3, 8, 11, generator=draw)
    pixels = F.interpolate(patches, IMAGE, mode="bilinear", align_corners=False)[0]
    height, width = (side // 4 for side in IMAGE)
    centre = torch.rand(num_masks, 2, 1, 1, generator=draw)
    radius = 0.05 + 0.4 * torch.rand(num_masks, 1, 1, generator=draw)
    y, x = torch.arange(PADDED[0] // 4)[:, None], torch.arange(PADDED[1] // 4)
    distance = ((y / height - centre[:, 0]) ** 2 + (x / width - centre[:, 1]) ** 2).sqrt()
    logits = 20 * (radius - distance)
    return (
        InputImage(pixels.to(device), pixels.to(device, torch.uint8), IMAGE),
        Proposals(logits.to(device), Frame(PADDED, IMAGE)),
    )


def _vit_alone(classifier: MaskedCrops, crops: Tensor) -> list[Tensor]:
    batches = crops.contiguous().split(classifier.batch_size)
    return [classifier.clip.embed_crops(batch) for batch in batches]


@torch.no_grad()
def _time_in_turn(
    parts: dict[str, Callable[[], Any]], repeats: int, device: torch.device
) -> tuple[dict[str, float], dict[str, Any]]:
    """Returns the median seconds and the result of each part.

    On a GPU the first run, which loads kernels, is not counted.
    """
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    results: dict[str, Any] = {}
    for _ in range(repeats + on_gpu):
        for name, part in parts.items():
            start = clock()
            results[name] = part()
            if on_gpu:
                torch.cuda.synchronize(device)
            seconds[name].append(clock() - start)
    return {name: statistics.median(all_[on_gpu:]) for name, all_ in seconds.items()}, results


def _agreement(exact: Tensor, rounded: Tensor, masks: Tensor) -> Figures:
    """Compares bfloat16 with float32: embeddings, and the classes of pixels.

    Args:
        exact, rounded: (Q, D) embeddings.
        masks: (Q, H, W), with which class scores are summed.
    """
    draw = torch.Generator().manual_seed(1)
    rows = F.normalize(torch.randn(NUM_CLASSES, exact.shape[1], generator=draw), dim=-1).to(exact)
    judged = torch.ones(len(masks), dtype=torch.bool, device=masks.device)
    seen, fusion = torch.zeros(NUM_CLASSES, dtype=torch.bool), Product(exponent=0.0)
    exact, rounded = F.normalize(exact, dim=-1), F.normalize(rounded, dim=-1)
    before, after = (
        class_maps(fusion(None, LOGIT_SCALE * each @ rows.T, seen, judged)[:, :-1], masks).argmax(
            dim=0
        )
        for each in (exact, rounded)
    )
    return {
        "bfloat16_unchanged_pixels": (before == after).float().mean().item(),
        "bfloat16_lowest_cosine": (exact * rounded).sum(dim=-1).min().item(),
        "classes_in_map": len(before.unique()),
        "highest_cosine_between_masks": (exact @ exact.T).fill_diagonal_(-1).max().item(),
    }


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def spread_weights(clip: CropClip) -> None:
    """Draws weights of a size that lets crops differ; with open_clip's all embeddings are alike."""
    for parameter in clip.model.visual.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


def print_figures(figures: Figures) -> None:
    """Prints a table of two columns."""
    table = Table("figure", "value", title="masked crops", title_justify="left")
    for name, value in figures.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", default="ViT-B-16", help="open_clip name or folder")
    parser.add_argument("--weights", default="random", help="tag or file; default: random")
    parser.add_argument("--depth", type=int, default=3, help="of the mask prompts")
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-bfloat16", action="store_true", help="measure float32 alone")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    clip = load_crop_clip(options.clip, options.weights, mask_prompt_depth=options.depth)
    if options.weights == "random":
        spread_weights(clip)
    figures = benchmark_masked_crops(
        clip=clip,
        num_masks=options.masks,
        repeats=options.repeats,
        device=torch.device(options.device),
        bfloat16=not options.no_bfloat16,
    )
    print(json.dumps(figures)) if options.json else print_figures(figures)


if __name__ == "__main__":
    main()
