"""Panoptic, instance and semantic output of a few pixels, worked by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from frozenseg.inference import instance, panoptic
from frozenseg.inference.mask_ensemble import MaskEnsemble, SamProposals
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.inference.semantic import class_maps
from frozenseg.inference.tiled_masks import whole_masks
from frozenseg.ops.maps import resize_maps
from frozenseg.pipeline.model import ClassProbs
from frozenseg.structures import (
    Frame,
    InputImage,
    Instances,
    PanopticMap,
    Proposals,
    Result,
    Segment,
)

CAT, DOG, GRASS = 0, 1, 2
IS_THING = torch.tensor([True, True, False])


def classes(*rows: tuple[int, float]) -> Tensor:
    """(Q, 4): each query's best class and its probability; the rest is void's."""
    probs = torch.zeros(len(rows), 4)
    for query, (class_id, score) in enumerate(rows):
        probs[query, class_id] = score
        probs[query, 3] += 1 - score
    return probs


def masks(*pictures: str, on: float = 0.9, off: float = 0.1) -> Tensor:
    """(Q, 4, 4) mask probabilities from rows of x and dot, a slash between rows."""
    rows = [[list(row) for row in picture.split("/")] for picture in pictures]
    return torch.tensor([[[on if c == "x" else off for c in row] for row in m] for m in rows])


TOP, BOTTOM = "xxxx/xxxx/..../....", "..../..../xxxx/xxxx"
LEFT, CORNER = "xx../xx../xx../xx..", "xx../xx../..../...."


def panoptic_map(probs: Tensor, mask_probs: Tensor, is_thing: Tensor, **options) -> PanopticMap:
    return panoptic.panoptic_map(probs, whole_masks(mask_probs.logit()), is_thing, **options)


def top_instances(probs: Tensor, logits: Tensor, is_thing: Tensor | None, **options) -> Instances:
    return instance.top_instances(probs, whole_masks(logits), is_thing, **options)


def test_a_four_by_four_image_worked_by_hand() -> None:
    result = panoptic_map(classes((CAT, 0.9), (GRASS, 0.8)), masks(TOP, BOTTOM), IS_THING)
    assert result.ids.tolist() == [[1] * 4] * 2 + [[2] * 4] * 2
    cat, grass = result.segments
    assert (cat.id, cat.class_id, cat.is_thing, cat.area) == (1, CAT, True, 8)
    assert (grass.id, grass.class_id, grass.is_thing, grass.area) == (2, GRASS, False, 8)
    assert (cat.score, grass.score) == (pytest.approx(0.9), pytest.approx(0.8))


def test_stuff_of_one_class_is_merged_and_things_are_not() -> None:
    stuff = panoptic_map(classes((GRASS, 0.9), (GRASS, 0.8)), masks(TOP, BOTTOM), IS_THING)
    assert [s.area for s in stuff.segments] == [16]
    assert stuff.ids.unique().tolist() == [1]
    things = panoptic_map(classes((CAT, 0.9), (CAT, 0.8)), masks(TOP, BOTTOM), IS_THING)
    assert things.ids.unique().tolist() == [1, 2]


def test_a_query_that_keeps_less_than_the_threshold_of_its_mask_is_dropped() -> None:
    """The dog's mask is the left half; the cat takes its upper part, so half of it is left."""
    probs, mask_probs = classes((CAT, 0.9), (DOG, 0.8)), masks(TOP, LEFT)
    dropped = panoptic_map(probs, mask_probs, IS_THING, overlap_threshold=0.8)
    assert [s.class_id for s in dropped.segments] == [CAT]
    assert dropped.ids[2:].eq(0).all()
    kept = panoptic_map(probs, mask_probs, IS_THING, overlap_threshold=0.5)
    assert [(s.class_id, s.area) for s in kept.segments] == [(CAT, 8), (DOG, 4)]
    assert kept.ids.tolist() == [[1] * 4] * 2 + [[2, 2, 0, 0]] * 2


def test_pixels_won_below_one_half_count_for_the_threshold_but_are_void() -> None:
    """Outside its mask the cat still beats the faint dog, which shows nowhere."""
    probs = classes((CAT, 0.9), (DOG, 0.1))
    result = panoptic_map(probs, masks(CORNER, BOTTOM), IS_THING)
    assert result.ids.tolist() == [[1, 1, 0, 0]] * 2 + [[0] * 4] * 2
    assert [s.class_id for s in result.segments] == [CAT]


def test_void_and_unsure_queries_take_no_part() -> None:
    probs = classes((CAT, 0.3), (DOG, 0.9))
    result = panoptic_map(probs, masks(TOP, BOTTOM), IS_THING)
    assert [s.class_id for s in result.segments] == [DOG]
    unsure = panoptic_map(probs, masks(TOP, BOTTOM), IS_THING, object_threshold=0.9)
    assert unsure.segments == ()
    assert unsure.ids.eq(0).all()


def test_an_image_without_queries_is_all_void() -> None:
    result = panoptic_map(torch.zeros(0, 4), torch.zeros(0, 4, 4), IS_THING)
    assert result.segments == ()
    assert result.ids.shape == (4, 4)


def test_ids_count_from_one_in_the_order_of_queries_and_areas_are_those_of_the_map() -> None:
    generator = torch.Generator().manual_seed(3)
    probs = torch.rand(12, 4, generator=generator).softmax(dim=-1)
    mask_probs = torch.rand(12, 9, 7, generator=generator)
    result = panoptic_map(probs, mask_probs, IS_THING, overlap_threshold=0.0)
    assert [s.id for s in result.segments] == list(range(1, len(result.segments) + 1))
    for segment in result.segments:
        assert segment.area == int((result.ids == segment.id).sum()) > 0
        assert isinstance(segment, Segment)


def test_instances_are_ranked_by_class_probability_times_mask_probability() -> None:
    probs = torch.tensor([[0.6, 0.3, 0.0, 0.1], [0.5, 0.4, 0.0, 0.1]])
    logits = masks(TOP, LEFT, on=0.0, off=-5.0)
    logits[0][logits[0] == 0] = 0.1  # barely inside: probability 0.525
    logits[1][logits[1] == 0] = 5.0
    found = top_instances(probs, logits, IS_THING, num_instances=3)
    assert found.class_ids.tolist() == [CAT, DOG, CAT]
    strong, weak = torch.tensor([5.0, 0.1]).sigmoid()
    expected = torch.stack([0.5 * strong, 0.4 * strong, 0.6 * weak])
    torch.testing.assert_close(found.scores, expected, rtol=1e-5, atol=1e-6)
    assert found.boxes.tolist() == [[0, 0, 2, 4], [0, 0, 2, 4], [0, 0, 4, 2]]
    assert found.masks[0].sum() == 8


def test_stuff_takes_places_in_the_ranking_and_is_then_removed() -> None:
    """As published numbers are made; without panoptic output every class is ranked and kept."""
    probs = torch.tensor([[0.2, 0.0, 0.7, 0.1], [0.5, 0.0, 0.4, 0.1]])
    logits = masks(TOP, BOTTOM, on=5.0, off=-5.0)
    found = top_instances(probs, logits, IS_THING, num_instances=2)
    assert found.class_ids.tolist() == [CAT]
    every = top_instances(probs, logits, None, num_instances=2)
    assert every.class_ids.tolist() == [GRASS, CAT]


def test_an_empty_mask_scores_zero_and_has_an_empty_box() -> None:
    found = top_instances(classes((CAT, 0.9)), torch.full((1, 4, 4), -1.0), None, num_instances=1)
    assert found.scores.tolist() == [0.0]
    assert found.boxes.tolist() == [[0, 0, 0, 0]]


def test_fewer_pairs_than_asked_for_are_all_given() -> None:
    found = top_instances(classes((CAT, 0.9)), masks(TOP, on=1, off=-1), None, num_instances=100)
    assert len(found.scores) == 3


def test_class_maps_are_sums_over_queries() -> None:
    probs = torch.tensor([[0.5, 0.25], [0.1, 0.2]])
    mask_probs = torch.tensor([[[1.0, 0.0]], [[0.5, 1.0]]])
    expected = torch.tensor([[[0.55, 0.1]], [[0.35, 0.2]]])
    torch.testing.assert_close(class_maps(probs, mask_probs), expected)


def read_outputs(
    class_probs: Tensor,
    mask_logits: Tensor,
    is_thing: Tensor,
    sizes: dict[str, tuple[int, int]],
    **options: bool,
) -> Result:
    """The outputs of (Q, K + 1) classes and (Q, h, w) masks, as a predictor computes them."""
    model = SimpleNamespace(eval=lambda: None)
    predictor = Predictor(
        model=model,
        text=None,
        is_thing=is_thing,
        seen=torch.zeros_like(is_thing),
        settings=OutputSettings(class_maps=True, **options),
    )
    probs = ClassProbs(class_probs, class_probs)
    frame = Frame(sizes["padded_size"], sizes["image_size"])
    pixels = torch.zeros(3, *sizes["image_size"])
    image = InputImage(pixels, pixels, sizes["output_size"])
    return predictor.outputs(image, Proposals(mask_logits, frame), probs)


SIZES = {"padded_size": (32, 64), "image_size": (30, 50), "output_size": (60, 75)}


def random_queries() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    probs = torch.randn(5, 4, generator=generator).softmax(dim=-1)
    return probs, 4 * torch.randn(5, 8, 16, generator=generator)


def test_all_outputs_have_the_size_that_was_asked_for() -> None:
    result = read_outputs(*random_queries(), IS_THING, SIZES)
    assert result.semantic.shape == (60, 75)
    assert result.class_maps.shape == (3, 60, 75)
    assert result.panoptic.ids.shape == (60, 75)
    assert result.instances.masks.shape[1:] == (60, 75)


def test_semantic_output_alone_is_combined_before_it_is_resized() -> None:
    """The sigmoid does not commute with resizing: published numbers depend on the order."""
    probs, logits = random_queries()
    alone = read_outputs(probs, logits, IS_THING, SIZES, panoptic=False, instance=False)
    beside = read_outputs(probs, logits, IS_THING, SIZES, instance=False)
    assert alone.panoptic is alone.instances is None
    assert (alone.class_maps - beside.class_maps).abs().max() > 0.01
    same = {"padded_size": (32, 64), "image_size": (32, 64), "output_size": (32, 64)}
    alone = read_outputs(probs, logits, IS_THING, same, panoptic=False, instance=False)
    beside = read_outputs(probs, logits, IS_THING, same, instance=False)
    torch.testing.assert_close(alone.class_maps, beside.class_maps)


def test_what_is_not_asked_for_is_not_made() -> None:
    result = read_outputs(*random_queries(), IS_THING, SIZES, semantic=False, panoptic=False)
    assert result.semantic is result.panoptic is None
    assert result.instances is not None


def test_padding_has_no_part_in_any_output() -> None:
    probs, logits = random_queries()
    changed = logits.clone()
    changed[:, :, 14:] = 50.0  # beyond the image's 50 columns, as far as resizing does not mix them
    for options in ({}, {"panoptic": False, "instance": False}):
        first = read_outputs(probs, logits, IS_THING, SIZES, **options)
        second = read_outputs(probs, changed, IS_THING, SIZES, **options)
        torch.testing.assert_close(first.class_maps, second.class_maps)


def test_sams_masks_are_mixed_at_the_size_that_class_maps_are_made_at() -> None:
    """One mask of SAM, larger than both: a resize to each size, then a sigmoid."""
    probs, logits = random_queries()
    sam_logits = 4 * torch.randn(1, 90, 110, generator=torch.Generator().manual_seed(5))

    class OneMask(MaskEnsemble):
        def proposals(self, *_: object, **__: object) -> SamProposals:
            return SamProposals(sam_logits, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))

    seen = torch.tensor([True, False, True])
    for made_at, options in (((60, 75), {}), ((30, 50), {"panoptic": False, "instance": False})):
        plain = read_outputs(probs, logits, IS_THING, SIZES, **options).class_maps
        model = SimpleNamespace(proposer=SimpleNamespace(void=None))
        predictor = Predictor(
            model=SimpleNamespace(eval=lambda model=model: model),
            text=None,
            is_thing=IS_THING,
            seen=seen,
            settings=OutputSettings(class_maps=True, **options),
            mask_ensemble=OneMask(None, None, epsilon=0.25),
        )
        frame = Frame(SIZES["padded_size"], SIZES["image_size"])
        pixels = torch.zeros(3, *SIZES["image_size"])
        image = InputImage(pixels, pixels, SIZES["output_size"])
        classes = ClassProbs(probs, probs)
        mixed = predictor.outputs(image, Proposals(logits, frame), classes).class_maps
        sam = resize_maps(resize_maps(sam_logits, made_at).sigmoid(), SIZES["output_size"])[0]
        assert torch.equal(mixed[seen], plain[seen])
        torch.testing.assert_close(mixed[1], 0.75 * plain[1] + 0.25 * sam)
