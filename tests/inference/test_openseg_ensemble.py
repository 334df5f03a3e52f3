"""Eq. 4 on the way from images to results: recorded outputs, and the shipped miniature model."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import frozenseg
from frozenseg.builders.segmenter import build_segmenter
from frozenseg.config import load_config
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.inference.class_ensemble import ClassEnsemble
from frozenseg.inference.mask_ensemble import MaskEnsemble, ensemble_masks, select_proposals
from frozenseg.inference.postprocess import PROPOSALS, Postprocess
from frozenseg.inference.predictor import SAM_PROPOSALS, Predictor
from frozenseg.inference.segmenter import Segmenter
from frozenseg.sam_masks.cache import CachedMasks
from frozenseg.sam_masks.generator import SamMasks
from frozenseg.vocabulary.text_classifier import build_text_classifier
from frozenseg.vocabulary.vocabulary import Vocabulary
from tools.reference_checks.reference_model import build_reference, reference_vocabularies

SEMANTIC = Postprocess(panoptic=False, instance=False)
Golden = Callable[[str], dict[str, Tensor]]


class GivenMasks:
    """Masks as they were recorded, at the size that they were recorded at."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    def __call__(self, image: Tensor) -> "GivenMasks":
        return self

    def logits(self) -> Tensor:
        return self._logits


@pytest.fixture(scope="module")
def reference(golden: Path, golden_tensors: Golden) -> Predictor:
    """The recorded model with its recorded masks of SAM."""
    case = json.loads((golden / "openseg_ensemble.json").read_text())
    model, _ = build_reference(case)
    training, test = reference_vocabularies(case)
    return Predictor(
        model=model,
        classifier=build_text_classifier(model.clip.encode_text, test),
        is_thing=torch.tensor(test.is_thing),
        seen=torch.tensor(test.seen_by(training)),
        ensemble=ClassEnsemble(),
        postprocess=Postprocess(instance=False),
        mask_ensemble=MaskEnsemble(
            GivenMasks(golden_tensors("openseg_ensemble")["sam_masks_A"]),
            epsilon=case["sam_mask_pred_alpha"],
        ),
    )


@pytest.mark.golden
def test_results_are_those_of_the_official_code_without_its_displaced_pooling(
    reference: Predictor, golden_tensors: Golden
):
    arrays = golden_tensors("openseg_ensemble")
    result = reference([arrays["image_A"].float()], [(75, 101)])[0]
    expected = arrays["A_variant_aligned_sem_seg_s2"]
    torch.testing.assert_close(result.semantic[:, ::2, ::2], expected, rtol=0, atol=2e-4)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("postprocess", "recorded"),
    [
        (Postprocess(instance=False), "A_panoptic_mode_sem_seg"),
        (SEMANTIC, "A_semantic_only_sem_seg"),
    ],
)
def test_from_the_official_classes_of_masks_both_modes_mix_alike(
    reference: Predictor, golden_tensors: Golden, postprocess: Postprocess, recorded: str
):
    """What was recorded is displaced by the official pooling; its own logits take that out."""
    arrays = golden_tensors("openseg_ensemble")
    masks, image = arrays["sam_masks_A"], arrays["image_A"].float()
    proposals = select_proposals(masks, arrays["A_sam_cls_logits"], reference.seen)
    assert len(proposals.class_probs) == 1
    refine = partial(ensemble_masks, proposals=proposals, seen=reference.seen)
    with torch.inference_mode():
        output = reference.model([image], reference.classifier)
        result = postprocess(
            reference.class_probs(output)[0],
            output.predictions[-1].mask_logits[0],
            reference.is_thing,
            padded_size=output.padded_size,
            image_size=(150, 203),
            output_size=(75, 101),
            refine=refine,
        )
    torch.testing.assert_close(result.semantic, arrays[recorded], rtol=0, atol=2e-4)


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
    config, weights = frozenseg.BUILTIN_MODELS["shapes"]
    where = ["MODEL.MASK_ENSEMBLE.CACHE", str(folder), "MODEL.WEIGHTS", str(weights)]
    return build_segmenter(load_config(config, [*OVERRIDES, *where]))


@cache
def scene(index: int = 1) -> Tensor:
    return ShapesDataset("val")[index].image


def maps_of(segmenter: Segmenter, vocabulary: Vocabulary, **changes: object) -> Tensor:
    """Semantic maps of a scene; ``changes`` are those to the mask ensemble, None: without one."""
    predictor = segmenter.predictor(vocabulary, "semantic")
    ensemble = predictor.mask_ensemble
    predictor = predictor.with_postprocess(predictor.postprocess)
    predictor.mask_ensemble = None if changes.get("off") else ensemble._replace(**changes)
    return predictor([scene()])[0].semantic


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

    predictor = segmenter.predictor(shapes_vocabulary("val"), "semantic")
    predictor = predictor.with_postprocess(predictor.postprocess)
    predictor.mask_ensemble = segmenter.mask_ensemble._replace(source=watching)
    before = len(list(folder.iterdir()))
    for _ in range(2):
        predictor([original[:, ::2, ::2]], [(256, 256)], [original])
    assert all(torch.equal(image, original) for image in seen) and len(seen) == 2
    assert len(list(folder.iterdir())) == before + 1


def test_panoptic_results_need_no_masks(segmenter: Segmenter):
    predictor = segmenter.predictor(shapes_vocabulary("val"), "panoptic")
    assert predictor.sam_masks([scene(3)]) is None


def test_proposals_are_the_queries_masks_and_sams_beside_them(segmenter: Segmenter):
    predictor = segmenter.predictor(shapes_vocabulary("val"), "proposals")
    result = predictor([scene()], [(128, 100)])[0]
    assert result.semantic is None
    assert result.extras[PROPOSALS].shape == (30, 128, 100)
    masks = segmenter.mask_ensemble.source(scene())
    assert result.extras[SAM_PROPOSALS].shape == (len(masks), 128, 100)
    assert result.extras[SAM_PROPOSALS].dtype == result.extras[PROPOSALS].dtype == torch.bool


def test_proposals_do_not_change_the_other_outputs(segmenter: Segmenter):
    predictor = segmenter.predictor(shapes_vocabulary("val"), "panoptic")
    more = predictor.with_postprocess(replace(predictor.postprocess, proposals=True))
    plain, both = predictor([scene()])[0], more([scene()])[0]
    assert torch.equal(plain.panoptic.ids, both.panoptic.ids) and not plain.extras
