"""A command line that can be called in-process, and a segmenter that needs no weights."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner, Result

import frozenseg
from frozenseg.builders.frozenseg import build_frozenseg
from frozenseg.cli.main import app
from frozenseg.data.images import read_image
from frozenseg.data.shapes import shapes_vocabulary
from frozenseg.inference.panoptic import panoptic_map
from frozenseg.inference.segmentation import Segmentation
from frozenseg.inference.tiled_masks import whole_masks
from frozenseg.structures import Instances, boxes_of
from frozenseg.structures import Result as Outputs
from frozenseg.vocabulary import Vocabulary, parse_vocabulary

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """``run("segment", path)``: status, standard output and standard error of a command."""

    def call(*arguments: object, input: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)

    return call


class HalvesSegmenter:
    """Finds the first class on the left and the last one on the right of every image."""

    training = shapes_vocabulary("train")
    score = 0.75
    default_task = "panoptic"

    def __call__(self, image, vocabulary, *, task: str = "panoptic") -> Segmentation:
        return self.batch([image], vocabulary, task=task)[0]

    def batch(self, images: Sequence, vocabulary, *, task: str = "panoptic") -> list[Segmentation]:
        words = vocabulary if isinstance(vocabulary, Vocabulary) else parse_vocabulary(vocabulary)
        return [self._segment(read_image(image), words, task) for image in images]

    def _segment(self, image: Tensor, vocabulary: Vocabulary, task: str) -> Segmentation:
        num_classes = len(vocabulary)
        masks = torch.zeros(2, *image.shape[1:])
        masks[0, :, : image.shape[2] // 2] = 1
        masks[1] = 1 - masks[0]
        classes = torch.zeros(2, num_classes + 1)
        classes[0, 0] = classes[1, num_classes - 1] = self.score
        labels = torch.where(masks[0] > 0, 0, num_classes - 1)
        is_thing = torch.tensor(vocabulary.is_thing)
        result = {
            "panoptic": Outputs(
                panoptic=panoptic_map(classes, whole_masks(200 * masks - 100), is_thing)
            ),
            "semantic": Outputs(semantic=labels),
            "instance": Outputs(
                instances=Instances(
                    torch.tensor([0]),
                    torch.tensor([self.score]),
                    masks[:1] > 0,
                    boxes_of(masks[:1] > 0),
                )
            ),
        }[task]
        return Segmentation(image=image, vocabulary=vocabulary, task=task, result=result)


@pytest.fixture(scope="session")
def halves() -> HalvesSegmenter:
    return HalvesSegmenter()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, halves: HalvesSegmenter) -> list[dict[str, object]]:
    """Replaces the model; holds what it was asked to load with."""
    asked: list[dict[str, object]] = []

    def load(model: str = "shapes", **options: object) -> HalvesSegmenter:
        asked.append({"model": model, **options})
        return halves

    monkeypatch.setattr(frozenseg, "load", load)
    return asked


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A readable image."""
    path = tmp_path / "scene.png"
    Image.fromarray(np.full((24, 32, 3), 90, dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def foreign_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the miniature model but for one, which has another shape."""
    model = build_frozenseg(frozenseg.model_config("shapes"))
    state = {name: value.contiguous() for name, value in model.trainable_state().items()}
    name = "transformer_decoder.query_features.weight"
    state[name] = torch.zeros(11, state[name].shape[1])
    path = tmp_path_factory.mktemp("weights") / "foreign.safetensors"
    save_file(state, path)
    return path
