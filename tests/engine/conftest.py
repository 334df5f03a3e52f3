"""A tiny stand-in for the model, with the same interface, whose runs take milliseconds."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frozenseg.engine.checkpoint import CheckpointFolder
from frozenseg.engine.loader import training_batches
from frozenseg.engine.optimizer import build_optimizer
from frozenseg.engine.schedule import multi_step
from frozenseg.engine.step import Batch, TrainStep
from frozenseg.engine.train import Trainer
from frozenseg.losses import Criterion, HungarianMatcher
from frozenseg.structures import Prediction, Sample, Target

SIZE, CLASSES = 32, 3
CPU = torch.device("cpu")


class TinyOutput(NamedTuple):
    predictions: list[Prediction]


class TinyModel(nn.Module):
    """Query masks over a frozen convolution; one query projection is shared, one has no reader."""

    def __init__(self, *, width: int = 8, num_queries: int = 5) -> None:
        super().__init__()
        self.clip = nn.Conv2d(3, width, 4, stride=4).requires_grad_(False)
        self.queries = nn.Embedding(num_queries, width)
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Conv2d(width, width, 1)
        self.classes = nn.Linear(width, CLASSES + 1)
        self.shared = self.pixels
        self.level_embedding = nn.Parameter(torch.randn(width))
        self.unread = nn.Linear(2, 2)

    def forward(self, images: list[Tensor], classifier: object) -> TinyOutput:
        with torch.no_grad():
            features = self.clip(torch.stack(images).float() / 127.5 - 1)
        features = F.relu(self.shared(features)) + self.level_embedding[:, None, None]
        queries = self.queries.weight.expand(len(images), -1, -1)
        return TinyOutput([self._predict(q, features) for q in (queries, self.norm(queries))])

    def _predict(self, queries: Tensor, features: Tensor) -> Prediction:
        masks = torch.einsum("bqc,bchw->bqhw", queries, features)
        pooled = torch.einsum("bqhw,bchw->bqc", masks.sigmoid(), features) / masks[0, 0].numel()
        return Prediction(self.classes(queries + pooled), masks)

    def trainable_state(self) -> dict[str, Tensor]:
        return {
            name: value.detach()
            for name, value in self.named_parameters()
            if not name.startswith("clip")
        }

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        with torch.no_grad():
            for name, value in self.trainable_state().items():
                value.copy_(state[name])


class TinySamples:
    """Images of one square each, of the colour of its class."""

    def __init__(self, size: int = 7) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        return Sample(
            image=torch.full((3, SIZE, SIZE), 40, dtype=torch.uint8),
            image_id=index,
            file_name=f"tiny/{index}.png",
        )


def augment(sample: Sample, generator: np.random.Generator) -> tuple[Tensor, Target]:
    """Draws the square somewhere; every image holds two targets."""
    x, y = generator.integers(0, SIZE // 2, size=2)
    class_id = int(sample.image_id) % CLASSES
    masks = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    masks[0, y : y + 12, x : x + 12] = True
    masks[1] = ~masks[0]
    image = sample.image.clone()
    image[class_id, masks[0]] = 200
    return image, Target(torch.tensor([class_id, CLASSES - 1]), masks)


def tiny_batches(*, batch_size: int = 2, **options: int) -> Iterator[Batch]:
    return training_batches(
        TinySamples(), augment=augment, batch_size=batch_size, seed=3, **options
    )


def tiny_step(*, lr: float = 0.01, autocast: torch.dtype | None = None, **model: int) -> TrainStep:
    torch.manual_seed(5)
    network = TinyModel(**model)
    return TrainStep(
        model=network,  # type: ignore[arg-type] (same interface)
        classifier=None,  # type: ignore[arg-type] (the tiny model has its classes built in)
        criterion=Criterion(matcher=HungarianMatcher(num_points=16), num_points=16),
        optimizer=build_optimizer(network, base_lr=lr, clip_norm=1.0),
        device=CPU,
        autocast=autocast,
    )


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer of six iterations that writes under the test's folder."""

    def make(**changes: object) -> Trainer:
        settings: dict = {
            "batches": tiny_batches(),
            "schedule": multi_step(steps=(4,)),
            "num_iterations": 6,
            "checkpoints": CheckpointFolder(tmp_path / "run" / "checkpoints"),
            "checkpoint_period": 0,
            "log_period": 1,
        }
        settings["step"] = changes.pop("step", None) or tiny_step()
        return Trainer(**(settings | changes))

    return make


def pin_points(step: TrainStep) -> TrainStep:
    """Lets the criterion look at the same points in every image, however images are grouped."""

    def draw(shape: tuple[int, ...], device: torch.device) -> Tensor:
        one = torch.rand(shape[1:], generator=torch.Generator().manual_seed(1), device=device)
        return one.expand(shape)

    step.criterion.draw = draw
    return step
