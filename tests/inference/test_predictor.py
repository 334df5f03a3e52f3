from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from frozenseg.inference.mask_ensemble import MaskEnsemble
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.fusion.geometric import Geometric
from frozenseg.structures import ClipMap, Frame, InputImage, Proposals
from frozenseg.vocabulary.text_classifier import TextClassifier

BuildPredictor = Callable[..., Predictor]


@pytest.fixture
def predictor(small_system) -> BuildPredictor:
    """Three classes, the first of them seen and a thing."""

    def build(
        kind: str = "resnet", *, mask_ensemble: MaskEnsemble | None = None, **ensemble: object
    ) -> Predictor:
        generator = torch.Generator().manual_seed(7)
        rows = torch.randn(4, 24, generator=generator)
        model = small_system(kind)
        model.fusion = Geometric(**ensemble)
        return Predictor(
            model=model,
            text=TextClassifier(torch.nn.functional.normalize(rows), torch.tensor([0, 1, 1, 2])),
            is_thing=torch.tensor([True, False, False]),
            seen=torch.tensor([True, False, False]),
            settings=OutputSettings(class_maps=True),
            mask_ensemble=mask_ensemble,
        )

    return build


def proposals(predict: Predictor) -> Proposals:
    """Two queries: the first covers nothing."""
    generator = torch.Generator().manual_seed(8)
    masks = torch.randn(2, 8, 8, generator=generator)
    masks[0] = -1
    logits = torch.randn(2, 4, generator=generator)
    backbone = predict.model.proposer.backbone
    features = torch.randn(1, backbone.channels[-1], 2, 2, generator=generator)
    frame = Frame((32, 32), (32, 32))
    return Proposals(masks, frame, logits, ClipMap(features, frame, backbone))


def image(
    height: int, width: int, seed: int = 0, *, output_size: tuple[int, int] | None = None
) -> InputImage:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return InputImage(pixels, pixels, output_size or size_of(pixels))


def test_an_empty_mask_keeps_the_decoders_classes_where_only_valid_ones_are_ensembled(predictor):
    some, shown = predictor(), image(32, 32)
    found = proposals(some)
    decoder = found.class_logits.softmax(dim=-1)
    strict, lax = predictor(valid_only=True), predictor(valid_only=False)
    valid_only = strict.class_probs(shown, proposals(strict)).general
    every = lax.class_probs(shown, proposals(lax)).general
    torch.testing.assert_close(valid_only[0], decoder[0])
    assert not torch.allclose(every[0], decoder[0])
    torch.testing.assert_close(valid_only[1], every[1])
    assert every.isfinite().all()


def test_without_weights_clip_is_not_asked(predictor: BuildPredictor, monkeypatch) -> None:
    alone = predictor(alpha=0.0, beta=0.0)
    monkeypatch.setattr(alone.model.region_classifier, "forward", None)
    found = proposals(alone)
    expected = found.class_logits.softmax(dim=-1)
    torch.testing.assert_close(alone.class_probs(image(32, 32), found).general, expected)


def test_results_are_as_large_as_their_images_or_as_asked(predictor: BuildPredictor) -> None:
    predict = predictor("convnext")
    first, second = predict([image(40, 50), image(64, 32)])
    assert first.panoptic.ids.shape == (40, 50)
    assert second.semantic.shape == (64, 32)
    (scaled,) = predict([image(40, 50, output_size=(20, 25))])
    assert scaled.class_maps.shape == (3, 20, 25)


def test_a_result_does_not_depend_on_what_else_is_in_the_batch(predictor: BuildPredictor) -> None:
    predict = predictor("convnext")
    images = [image(40, 50, seed=1), image(64, 32, seed=2), image(33, 64, seed=3)]
    together = predict(images)
    for result, alone in zip(together, images, strict=True):
        single = predict([alone])[0]
        torch.testing.assert_close(result.class_maps, single.class_maps, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["convnext", "resnet"])
def test_sams_masks_are_classified_by_either_kind_of_tower_and_mixed_by_hand(
    predictor: BuildPredictor, kind: str
) -> None:
    logits = torch.full((2, 64, 96), -9.0)
    logits[0, :, :48] = logits[1, :, 48:] = 9.0  # the left half, the right half
    predict = predictor(kind).with_settings(
        OutputSettings(panoptic=False, instance=False, class_maps=True)
    )
    model = predict.model
    predict.mask_ensemble = MaskEnsemble(
        lambda _: None, model.region_classifier, epsilon=0.2, threshold=0.0
    )
    shown = image(64, 96)
    plain = predict([shown._replace(sam_masks=logits[:0])])[0].class_maps
    mixed = predict([shown._replace(sam_masks=logits)])[0].class_maps
    with torch.inference_mode():
        (found,) = predict.propose([shown])
        cells = logits[:, ::32, ::32]  # 2 x 3 cells of 32 pixels
        regions = model.region_classifier.embed(found.clip_map, cells)
        void = model.proposer.void
        classes = predict.text.logits(regions.embeddings, regions.logit_scale, void=void)
    zero_shot = torch.einsum("pk,phw->khw", classes.softmax(dim=-1)[:, :-1], logits.sigmoid())
    torch.testing.assert_close(mixed[0], plain[0], rtol=0, atol=0)
    torch.testing.assert_close(mixed[1:], 0.8 * plain[1:] + 0.2 * zero_shot[1:])
    assert not torch.allclose(classes[0], classes[1]), "the halves do not look alike"


def test_regions_may_be_embedded_by_another_clip_than_the_backbone(
    predictor: BuildPredictor, small_clip
) -> None:
    predict, shown = predictor("convnext"), image(64, 64)
    own = predict([shown])[0].class_maps
    predict.model.region_classifier.clip = small_clip("resnet")
    other = predict([shown])[0].class_maps
    assert other.isfinite().all() and not torch.allclose(own, other)


def test_a_copy_of_the_backbone_computes_the_same_map_again(
    predictor: BuildPredictor, small_clip
) -> None:
    predict, shown = predictor("convnext"), image(50, 70)
    own = predict([shown])[0].class_maps
    predict.model.region_classifier.clip = small_clip("convnext")  # equal weights, another object
    again: Tensor = predict([shown])[0].class_maps
    torch.testing.assert_close(own, again)
