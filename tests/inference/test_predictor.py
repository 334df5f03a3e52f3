from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from frozenseg.inference.class_ensemble import ClassEnsemble
from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.postprocess import Postprocess
from frozenseg.inference.predictor import Predictor
from frozenseg.modeling.frozenseg import Output
from frozenseg.structures import Prediction
from frozenseg.vocabulary.text_classifier import TextClassifier

BuildPredictor = Callable[..., Predictor]


@pytest.fixture
def predictor(small_model) -> BuildPredictor:
    """Three classes, the first of them seen and a thing."""

    def build(
        kind: str = "resnet", *, mask_ensemble: MaskEnsemble | None = None, **ensemble: object
    ) -> Predictor:
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
            mask_ensemble=mask_ensemble,
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


@pytest.mark.parametrize("kind", ["convnext", "resnet"])
def test_sams_masks_are_classified_by_either_kind_of_tower_and_mixed_by_hand(
    predictor: BuildPredictor, kind: str
) -> None:
    logits = torch.full((2, 64, 96), -9.0)
    logits[0, :, :48] = logits[1, :, 48:] = 9.0  # the left half, the right half
    nobody = MaskEnsemble(lambda _: None, epsilon=0.2, threshold=0.0)
    predict = predictor(kind, mask_ensemble=nobody)
    semantic = predict.with_postprocess(Postprocess(panoptic=False, instance=False))
    picture = image(64, 96)
    plain = semantic.segment([picture], sam_masks=[logits[:0]])[0].semantic
    mixed = semantic.segment([picture], sam_masks=[logits])[0].semantic
    with torch.inference_mode():
        dense = predict.model([picture], predict.classifier).dense
        cells = logits[:, ::32, ::32]  # 2 x 3 cells of 32 pixels
        classes = predict.model.classify_regions(dense, cells[None], predict.classifier)[0]
    zero_shot = torch.einsum("pk,phw->khw", classes.softmax(dim=-1)[:, :-1], logits.sigmoid())
    torch.testing.assert_close(mixed[0], plain[0], rtol=0, atol=0)
    torch.testing.assert_close(mixed[1:], 0.8 * plain[1:] + 0.2 * zero_shot[1:])
    assert not torch.allclose(classes[0], classes[1]), "the halves do not look alike"
