#!/usr/bin/env python
"""Times updates of a training, and the memory they keep, beside the same model with savings off.

    python tools/benchmarks/training_step.py --updates 5
    python tools/benchmarks/training_step.py --config configs/frozenseg_rn50x64.yaml --outline

Every row switches one saving off: towers that keep no activations, matching and losses of all
layers in one copy to the host, the fused optimizer, and products that keep bool masks and one cast
of the mask features. The rows take turns on equal models and batches, so that other work on the
machine matters little. Towers have their configured weights; images are random.

"kept" is what the forward pass of model and losses keeps for the backward pass, without weights.
With --outline it alone is counted, for the model's part, from shapes: nothing is computed.
Prints a table, or JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from unittest.mock import patch

import torch
from fvcore.common.config import CfgNode
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from frozenseg import model_config
from frozenseg.builders.frozenseg import build_frozenseg, frozenseg_outline
from frozenseg.builders.training import build_adamw, build_criterion
from frozenseg.losses import Criterion
from frozenseg.losses.matcher import HungarianMatcher, Match, PackedTargets, assign
from frozenseg.modeling import transformer_decoder
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.ops.mask_pooling import binary_masks
from frozenseg.structures import Prediction, Target
from frozenseg.training.optimizer import ClippedAdamW
from frozenseg.training.step import Batch, TrainStep
from frozenseg.vocabulary.text_classifier import TextClassifier

NUM_CLASSES, NUM_TARGETS = 133, 12  # of COCO; segments of an image
MB = 2**20


@dataclass(frozen=True)
class Row:
    """Savings that a row of the table switches off."""

    name: str
    towers: bool = False
    copies: bool = False
    optimizer: bool = False
    products: bool = False


ROWS = (
    Row("as shipped"),
    Row("towers keep activations", towers=True),
    Row("a copy to the host per layer", copies=True),
    Row("optimizer not fused", optimizer=True),
    Row("products keep their arguments", products=True),
    Row("all off", towers=True, copies=True, optimizer=True, products=True),
)


class LayerwiseMatcher(HungarianMatcher):
    """Copies the cost table of each layer to the host on its own."""

    @torch.no_grad()
    def __call__(
        self, predictions: Sequence[Prediction], targets: PackedTargets, points: Sequence[Tensor]
    ) -> list[Match]:
        pairs = zip(predictions, points, strict=True)
        tables = (self.costs(*pair, targets) for pair in pairs)
        return [assign([table], targets.counts)[0] for table in tables]


class PlainAdamW(ClippedAdamW):
    """Updates one parameter after the other."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        for group in self.param_groups:
            group["fused"] = group["foreach"] = False
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        limit = float("inf") if self.clip_norm is None else self.clip_norm
        self.grad_norm = clip_grad_norm_(parameters, limit, foreach=False)
        return torch.optim.AdamW.step(self, closure)


class Measured:
    """One row's model and its updates."""

    def __init__(self, row: Row, cfg: CfgNode, device: torch.device, autocast: torch.dtype | None):
        torch.manual_seed(0)
        model = build_frozenseg(cfg).to(device).train()
        self.row, self.batch = row, random_batch(cfg, device)
        criterion = build_criterion(cfg)
        assert isinstance(criterion, Criterion), "the configuration is one of FrozenSeg or FC-CLIP"
        if row.copies:
            criterion.matcher = LayerwiseMatcher(**vars(criterion.matcher))
        optimizer = build_adamw(cfg, model)  # before the towers count as trainable
        if row.optimizer:
            limits = {"clip_norm": optimizer.clip_norm, "norm_type": optimizer.norm_type}
            optimizer = PlainAdamW(optimizer.param_groups, **limits)
        with_switches(model, row)
        self.step = TrainStep(
            model=model,
            classifier=random_rows(model).to(device),
            criterion=_reading_each(criterion) if row.copies else criterion,
            optimizer=optimizer,
            device=device,
            autocast=autocast,
        )
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.memory = 0.0  # MB, the device's peak beyond what it held before the update

    def update(self) -> None:
        device = self.step.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        cpu, wall = time.process_time(), time.perf_counter()
        with switched(self.row):
            self.step([self.batch])
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            self.memory = (torch.cuda.max_memory_allocated(device) - before) / MB
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)

    def kept(self) -> float:
        """Returns the MB per image that the forward pass keeps for the backward pass."""
        step = self.step
        with (
            switched(self.row),
            counted(step.model) as sizes,
            _autocast(step.device, step.autocast),
        ):
            predictions = step.model(self.batch.images, step.classifier).predictions
            step.criterion(predictions, self.batch.targets)
        return sum(sizes.values()) / MB / len(self.batch.images)


def with_switches(model: FrozenSeg, row: Row) -> None:
    """Lets the towers keep activations if the row asks for it."""
    if not row.towers:
        return
    for name, tower in model.named_children():
        if name in ("backbone", "sam"):
            tower.requires_grad_()
            below_no_grad = getattr(tower.forward, "__wrapped__", None)
            if below_no_grad is not None:
                tower.forward = MethodType(below_no_grad, tower)


@contextmanager
def switched(row: Row) -> Iterator[None]:
    """Replaces the products of the decoder inside the block if the row asks for it."""
    with ExitStack() as patches:
        if row.products:
            for name, plain in (("mask_pool", _pool), ("cast_once", lambda tensor: lambda: tensor)):
                patches.enter_context(patch.object(transformer_decoder, name, plain))
        yield


def _pool(features: Tensor, mask_logits: Tensor) -> Tensor:
    weights = binary_masks(mask_logits, features.shape[-2:]).to(features.dtype)
    area = weights.sum(dim=(-2, -1)).clamp(min=1e-8)
    return torch.einsum("bchw,bqhw->bqc", features, weights) / area[..., None]


def _reading_each(criterion: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    def losses(*arguments: object, **options: object) -> dict[str, Tensor]:
        found = criterion(*arguments, **options)
        for loss in found.values():
            loss.item()
        return found

    return losses


@contextmanager
def counted(model: nn.Module) -> Iterator[dict[int, int]]:
    """Yields the bytes of each storage that is kept for the backward pass, except weights."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []  # a storage that is freed could give its place to another

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            sizes[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        yield sizes


def outline_kept(cfg: CfgNode, row: Row, autocast: torch.dtype | None) -> float:
    """Returns the MB per image that the model keeps in training, from shapes alone."""
    outline = frozenseg_outline(cfg)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = outline.to_empty(device="cpu").train()
        with_switches(model, row)
        text = random_rows(model)
        image = torch.zeros(3, cfg.INPUT.IMAGE_SIZE, cfg.INPUT.IMAGE_SIZE, dtype=torch.uint8)
        cpu = torch.device("cpu")
        with switched(row), counted(model) as sizes, _autocast(cpu, autocast):
            model([image], text)
        return sum(sizes.values()) / MB


def _autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def random_rows(model: FrozenSeg) -> TextClassifier:
    """Returns one random row per class."""
    width = model.void_embedding.weight.shape[1]
    rows = F.normalize(torch.randn(NUM_CLASSES, width), dim=-1)
    return TextClassifier(rows, torch.arange(NUM_CLASSES), NUM_CLASSES)


def random_batch(cfg: CfgNode, device: torch.device) -> Batch:
    """Returns random images with rectangles as targets, on the device."""
    draw, size = torch.Generator().manual_seed(0), cfg.INPUT.IMAGE_SIZE
    images, targets = [], []
    for _ in range(cfg.SOLVER.IMS_PER_BATCH):
        images.append(torch.randint(256, (3, size, size), generator=draw, dtype=torch.uint8))
        masks = torch.zeros(NUM_TARGETS, size, size, dtype=torch.bool)
        corners = torch.randint(size // 2, (NUM_TARGETS, 2), generator=draw).tolist()
        for mask, (y, x) in zip(masks, corners, strict=True):
            mask[y : y + size // 4, x : x + size // 4] = True
        targets.append(Target(torch.randint(NUM_CLASSES, (NUM_TARGETS,), generator=draw), masks))
    names = [str(number) for number in range(len(images))]
    return Batch(images, targets, names, len(images)).to(device)


def benchmark(
    cfg: CfgNode, *, updates: int, device: torch.device, autocast: torch.dtype | None
) -> list[dict[str, float | str]]:
    """Measures all rows, update by update in turn; the first update is not counted."""
    rows = [Measured(row, cfg, device, autocast) for row in ROWS]
    for _ in range(updates + 1):
        for each in rows:
            each.update()
    figures: list[dict[str, float | str]] = []
    for each in rows:
        figure: dict[str, float | str] = {
            "row": each.row.name,
            "kept_mb_per_image": each.kept(),
            "cpu_seconds_per_update": statistics.median(each.cpu[1:]),
            "updates_per_second": 1 / statistics.median(each.wall[1:]),
        }
        if device.type == "cuda":
            figure["peak_mb_per_image"] = each.memory / len(each.batch.images)
        figures.append(figure)
    return figures


def configuration(path: str, *, batch: int, crop: int | None) -> CfgNode:
    """Returns the configuration of a training with another batch and crop."""
    size = [] if crop is None else ["INPUT.IMAGE_SIZE", str(crop)]
    overrides = ["SOLVER.IMS_PER_BATCH", str(batch), *size]
    return model_config(Path(path), overrides=overrides)


def print_figures(figures: list[dict[str, float | str]]) -> None:
    """Prints one line per row."""
    table = Table(*(name.replace("_", " ") for name in figures[0]))
    for figure in figures:
        cells = (f"{x:.4g}" if isinstance(x, float) else str(x) for x in figure.values())
        table.add_row(*cells)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/shapes/frozenseg.yaml")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, help="side of the images, pixels")
    parser.add_argument("--updates", type=int, default=5, help="per row")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--autocast", choices=("bfloat16", "float16"))
    parser.add_argument("--outline", action="store_true", help="count from shapes, time nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    cfg = configuration(options.config, batch=options.batch, crop=options.crop)
    autocast = options.autocast and getattr(torch, options.autocast)
    if options.outline:
        rows = (ROWS[0], ROWS[1], ROWS[4], ROWS[5])  # copies and optimizer keep nothing
        figures = [
            {"row": row.name, "kept_mb_per_image": outline_kept(cfg, row, autocast)} for row in rows
        ]
    else:
        device = torch.device(options.device)
        figures = benchmark(cfg, updates=options.updates, device=device, autocast=autocast)
    print(json.dumps(figures)) if options.json else print_figures(figures)


if __name__ == "__main__":
    main()
