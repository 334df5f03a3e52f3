from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from frozenseg.inference.class_ensemble import ClassEnsemble
from frozenseg.inference.postprocess import Postprocess
from frozenseg.inference.predictor import Predictor
from frozenseg.modeling.frozenseg import Output
from frozenseg.structures import Prediction
from frozenseg.vocabulary.text_classifier import TextClassifier

BuildPredictor = Callable[..., Predictor]


@pytest.fixture
def predictor(small_model) -> BuildPredictor:
    """Three classes, the first of them seen and a thing."""

    def build(kind: str = "resnet", **ensemble: object) -> Predictor:
        generator = torch.Generator().manual_seed(7)
        rows = torch.randn(4, 24, generator=generator)
        words = TextClassifier(torch.nn.functional.normalize(rows), torch.tensor([0, 1, 1, 2]))
        return Predictor(
            model=small_model(kind),
            classifier=words,
            is_thing=torch.tensor([True, False, False]),
            seen=torch.tensor([True, False, False]),
            postprocess=Postprocess(),
            ensemble=ClassEnsemble(**ensemble),
        )

    return build


def output(channels: int) -> Output:
    """Two queries: the first covers nothing."""
    generator = torch.Generator().manual_seed(8)
    masks = torch.randn(1, 2, 8, 8, generator=generator)
    masks[0, 0] = -1
    logits = torch.randn(1, 2, 4, generator=generator)
    dense = torch.randn(1, channels, 2, 2, generator=generator)
    return Output([Prediction(logits, masks)], dense, [(32, 32)], (32, 32))


def image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_an_empty_mask_keeps_the_decoders_classes_where_only_valid_ones_are_ensembled(predictor):
    found = output(predictor().model.clip.channels[-1])
    decoder = found.predictions[-1].class_logits.softmax(dim=-1)
    valid_only = predictor(valid_only=True).class_probs(found)
    every = predictor(valid_only=False).class_probs(found)
    torch.testing.assert_close(valid_only[0, 0], decoder[0, 0])
    assert not torch.allclose(every[0, 0], decoder[0, 0])
    torch.testing.assert_close(valid_only[0, 1], every[0, 1])
    assert every.isfinite().all()


def test_without_weights_clip_is_not_asked(predictor: BuildPredictor, monkeypatch) -> None:
    alone = predictor(alpha=0.0, beta=0.0)
    monkeypatch.setattr(alone.model, "classify_regions", None)
    found = output(alone.model.clip.channels[-1])
    expected = found.predictions[-1].class_logits.softmax(dim=-1)
    torch.testing.assert_close(alone.class_probs(found), expected)


def test_results_are_as_large_as_their_images_or_as_asked(predictor: BuildPredictor) -> None:
    predict = predictor("convnext")
    first, second = predict([image(40, 50), image(64, 32)])
    assert first.panoptic.ids.shape == (40, 50)
    assert second.semantic.shape == (3, 64, 32)
    (scaled,) = predict([image(40, 50)], [(20, 25)])
    assert scaled.semantic.shape == (3, 20, 25)


def test_a_result_does_not_depend_on_what_else_is_in_the_batch(predictor: BuildPredictor) -> None:
    predict = predictor("convnext")
    images = [image(40, 50, seed=1), image(64, 32, seed=2), image(33, 64, seed=3)]
    together = predict(images)
    for result, alone in zip(together, images, strict=True):
        single = predict([alone])[0]
        torch.testing.assert_close(result.semantic, single.semantic, rtol=1e-3, atol=1e-3)
