"""Eq. 4 on the way from images to results: recorded outputs, and the shipped miniature model."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from reference_checks.reference_model import build_reference, reference_vocabularies
from torch import Tensor

from frozenseg.builders.segmenter import build_segmenter
from frozenseg.config import load_config, model_names
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.inference.mask_ensemble import MaskEnsemble, SamProposals, select_proposals
from frozenseg.inference.outputs import PROPOSALS, OutputSettings
from frozenseg.inference.predictor import SAM_PROPOSALS, Predictor
from frozenseg.inference.segmenter import Segmenter
from frozenseg.ops.maps import size_of
from frozenseg.sam_masks.cache import CachedMasks
from frozenseg.sam_masks.generator import SamMasks
from frozenseg.structures import InputImage
from frozenseg.vocabulary.text_classifier import build_text_classifier
from frozenseg.vocabulary.vocabulary import Vocabulary

SEMANTIC = OutputSettings(panoptic=False, instance=False, class_maps=True)
Golden = Callable[[str], dict[str, Tensor]]


class GivenMasks:
    """Masks as they were recorded, at the size that they were recorded at."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    def __call__(self, image: Tensor) -> "GivenMasks":
        return self

    def logits(self) -> Tensor:
        return self._logits


def shown(pixels: Tensor, size: tuple[int, int] | None = None) -> InputImage:
    return InputImage(pixels, pixels.to(torch.uint8), size or size_of(pixels))


@pytest.fixture(scope="module")
def reference(golden: Path, golden_tensors: Golden) -> Predictor:
    """The recorded model with its recorded masks of SAM."""
    case = json.loads((golden / "openseg_ensemble.json").read_text())
    model, _ = build_reference(case)
    training, test = reference_vocabularies(case)
    return Predictor(
        model=model,
        text=build_text_classifier(model.text_encoder.encode_text, test),
        is_thing=torch.tensor(test.is_thing),
        seen=torch.tensor(test.seen_by(training)),
        settings=OutputSettings(instance=False, class_maps=True),
        mask_ensemble=MaskEnsemble(
            GivenMasks(golden_tensors("openseg_ensemble")["sam_masks_A"]),
            model.region_classifier,
            epsilon=case["sam_mask_pred_alpha"],
        ),
    )


@pytest.mark.golden
def test_results_are_those_of_the_official_code_without_its_displaced_pooling(
    reference: Predictor, golden_tensors: Golden
):
    arrays = golden_tensors("openseg_ensemble")
    result = reference([shown(arrays["image_A"].float(), (75, 101))])[0]
    expected = arrays["A_variant_aligned_sem_seg_s2"]
    torch.testing.assert_close(result.class_maps[:, ::2, ::2], expected, rtol=0, atol=2e-4)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("settings", "recorded"),
    [
        (OutputSettings(instance=False, class_maps=True), "A_panoptic_mode_sem_seg"),
        (SEMANTIC, "A_semantic_only_sem_seg"),
    ],
)
def test_from_the_official_classes_of_masks_both_modes_mix_alike(
    reference: Predictor, golden_tensors: Golden, settings: OutputSettings, recorded: str
):
    """What was recorded is displaced by the official pooling; its own logits take that out."""
    arrays = golden_tensors("openseg_ensemble")
    masks, image = arrays["sam_masks_A"], arrays["image_A"].float()
    proposals = select_proposals(masks, arrays["A_sam_cls_logits"], reference.seen)
    assert len(proposals.class_probs) == 1

    class Recorded(MaskEnsemble):
        def proposals(self, *_: object, **__: object) -> SamProposals:
            return proposals

    with torch.inference_mode():
        predict = reference.with_settings(settings)
        predict.mask_ensemble = Recorded(*reference.mask_ensemble)
        result = predict([shown(image, (75, 101))])[0]
    torch.testing.assert_close(result.class_maps, arrays[recorded], rtol=0, atol=2e-4)


OVERRIDES = (
    "MODEL.DEVICE",
    "cpu",
    "MODEL.MASK_ENSEMBLE.ENABLED",
    "True",
    "MODEL.MASK_ENSEMBLE.POINTS_PER_SIDE",
    "6",
    "MODEL.MASK_ENSEMBLE.THRESHOLD",
    "0.3",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("masks")


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> Segmenter:
    """The shipped model with eq. 4 on."""
    config, weights = model_names()["shapes"]
    where = ["MODEL.MASK_ENSEMBLE.CACHE", str(folder), "MODEL.WEIGHTS", str(weights)]
    return build_segmenter(load_config(config, [*OVERRIDES, *where]))


@cache
def scene(index: int = 1) -> Tensor:
    return ShapesDataset("val")[index].image


def maps_of(segmenter: Segmenter, vocabulary: Vocabulary, **changes: object) -> Tensor:
    """Semantic maps of a scene; ``changes`` are those to the mask ensemble, None: without one."""
    predictor = segmenter.build_predictor(vocabulary, outputs=["semantic"], class_maps=True)
    ensemble = predictor.mask_ensemble
    predictor = predictor.with_settings(predictor.settings)
    predictor.mask_ensemble = None if changes.get("off") else ensemble._replace(**changes)
    return predictor([shown(scene())])[0].class_maps


def test_maps_of_unseen_classes_change_and_those_of_seen_ones_do_not(segmenter: Segmenter):
    words = shapes_vocabulary("val")
    seen = torch.tensor(words.seen_by(segmenter.training))
    plain, mixed = maps_of(segmenter, words, off=True), maps_of(segmenter, words)
    assert torch.equal(mixed[seen], plain[seen])
    assert not torch.equal(mixed[~seen], plain[~seen])


def test_with_no_mask_kept_the_result_is_exactly_the_plain_one(segmenter: Segmenter):
    words = shapes_vocabulary("val")
    plain = maps_of(segmenter, words, off=True)
    assert torch.equal(maps_of(segmenter, words, threshold=1.0), plain)
    assert torch.equal(maps_of(segmenter, words, source=GivenMasks(torch.zeros(0, 9, 9))), plain)


def test_where_every_class_is_seen_the_result_is_exactly_the_plain_one(segmenter: Segmenter):
    words = shapes_vocabulary("train")
    plain = maps_of(segmenter, words, off=True)
    assert torch.equal(maps_of(segmenter, words, threshold=0.0), plain)


def test_where_no_class_is_seen_every_map_can_change(segmenter: Segmenter):
    words = Vocabulary((("lava",), ("hexagon",)), (False, True))
    assert not any(words.seen_by(segmenter.training))
    plain, mixed = maps_of(segmenter, words, off=True), maps_of(segmenter, words)
    assert all((mixed[k] != plain[k]).any() for k in range(2))


def test_a_mask_that_clip_sees_nothing_of_takes_no_part(segmenter: Segmenter):
    words = shapes_vocabulary("val")
    nothing = GivenMasks(torch.full((2, 256, 256), -5.0))
    mixed = maps_of(segmenter, words, source=nothing, threshold=0.0)
    assert torch.equal(mixed, maps_of(segmenter, words, off=True))


def test_cached_masks_give_the_semantic_result_of_exact_ones(segmenter: Segmenter):
    """At least 99.99 % of pixels have the same class."""
    words, source = shapes_vocabulary("val"), segmenter.mask_ensemble.source
    assert isinstance(source, CachedMasks)
    generate, _ = source.build()
    exact = maps_of(segmenter, words, source=generate).argmax(dim=0)
    cached = maps_of(segmenter, words).argmax(dim=0)
    assert (exact == cached).float().mean() >= 0.9999


def test_masks_are_made_of_the_original_and_found_again(segmenter: Segmenter, folder: Path):
    original = scene(2)
    seen: list[Tensor] = []

    def watching(image: Tensor) -> SamMasks:
        seen.append(image)
        return segmenter.mask_ensemble.source(image)

    predictor = segmenter.build_predictor(shapes_vocabulary("val"), outputs=["semantic"])
    predictor = predictor.with_settings(predictor.settings)
    predictor.mask_ensemble = segmenter.mask_ensemble._replace(source=watching)
    before = len(list(folder.iterdir()))
    for _ in range(2):
        predictor([InputImage(original[:, ::2, ::2], original, (256, 256))])
    assert all(torch.equal(image, original) for image in seen) and len(seen) == 2
    assert len(list(folder.iterdir())) == before + 1


def test_panoptic_results_need_no_masks(segmenter: Segmenter):
    predictor = segmenter.build_predictor(shapes_vocabulary("val"), outputs=["panoptic"])
    assert predictor.with_sam_masks(shown(scene(3))).sam_masks is None


def test_proposals_are_the_queries_masks_and_sams_beside_them(segmenter: Segmenter):
    predictor = segmenter.build_predictor(shapes_vocabulary("val"), outputs=["proposals"])
    result = predictor([shown(scene(), (128, 100))])[0]
    assert result.semantic is None
    assert result.extras[PROPOSALS].shape == (30, 128, 100)
    masks = segmenter.mask_ensemble.source(scene())
    assert result.extras[SAM_PROPOSALS].shape == (len(masks), 128, 100)
    assert result.extras[SAM_PROPOSALS].dtype == result.extras[PROPOSALS].dtype == torch.bool


def test_proposals_do_not_change_the_other_outputs(segmenter: Segmenter):
    predictor = segmenter.build_predictor(shapes_vocabulary("val"), outputs=["panoptic"])
    more = predictor.with_settings(replace(predictor.settings, proposals=True))
    plain, both = predictor([shown(scene())])[0], more([shown(scene())])[0]
    assert torch.equal(plain.panoptic.ids, both.panoptic.ids) and not plain.extras
