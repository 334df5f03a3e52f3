"""Outputs made tile by tile equal those of whole maps, on every kind of mask."""

from types import SimpleNamespace

import pytest
import torch
from benchmarks.unfused import unfused_outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import frozenseg
from frozenseg.data.shapes import ShapesDataset, shapes_vocabulary
from frozenseg.inference.outputs import PROPOSALS, OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.inference.tiled_masks import first_argmax
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.masks import masks_at
from frozenseg.pipeline.model import ClassProbs
from frozenseg.structures import Frame, InputImage, Proposals, Result

EVERY = {
    "all": OutputSettings(),
    "all but few instances": OutputSettings(num_instances=7, things_only=True),
    "semantic": OutputSettings(panoptic=False, instance=False),
    "panoptic": OutputSettings(semantic=False, instance=False, overlap_threshold=0.3),
    "sure panoptic": OutputSettings(semantic=False, instance=False, object_threshold=0.3),
    "instance": OutputSettings(semantic=False, panoptic=False),
}


def is_thing_of(class_probs: Tensor) -> Tensor:
    return torch.arange(class_probs.shape[1] - 1) % 3 > 0


def outputs(
    wanted: OutputSettings, proposals: Proposals, class_probs: Tensor, size: tuple[int, int]
) -> Result:
    is_thing = is_thing_of(class_probs)
    predictor = Predictor(
        model=SimpleNamespace(eval=lambda: None),
        text=None,
        is_thing=is_thing,
        seen=is_thing,
        settings=wanted,
    )
    pixels = torch.zeros(3, *proposals.frame.image_size)
    image = InputImage(pixels, pixels, size)
    return predictor.outputs(image, proposals, ClassProbs(class_probs, class_probs))


def check(
    proposals: Proposals,
    class_probs: Tensor,
    size: tuple[int, int],
    *,
    kinds: tuple[str, ...] = tuple(EVERY),
    least: float = 0.9999,
) -> None:
    """Compares every output with that of whole maps."""
    is_thing = is_thing_of(class_probs)
    for kind in kinds:
        ours = outputs(EVERY[kind], proposals, class_probs, size)
        whole = unfused_outputs(EVERY[kind], proposals, class_probs, is_thing, size)
        if whole.semantic is not None:
            assert ours.semantic.shape == size and ours.class_maps is None, kind
            assert (ours.semantic == whole.semantic).float().mean() >= least, kind
        if whole.panoptic is not None:
            assert (ours.panoptic.ids == whole.panoptic.ids).float().mean() >= least, kind
            for segment, other in zip(ours.panoptic.segments, whole.panoptic.segments, strict=True):
                assert segment[:3] == other[:3], kind
                assert segment.score == pytest.approx(other.score)
                assert segment.area == (ours.panoptic.ids == segment.id).sum()
        if whole.instances is not None:
            assert ours.instances.class_ids.tolist() == whole.instances.class_ids.tolist(), kind
            torch.testing.assert_close(ours.instances.scores, whole.instances.scores)
            assert (ours.instances.masks == whole.instances.masks).float().mean() >= least, kind


def random_masks(seed: int, *, spread: float = 5.0, scale: int = 4) -> Proposals:
    """Noise, smooth over ``scale`` cells: 20 queries on 26 x 35 cells, the last ones padding."""
    draw = torch.Generator().manual_seed(seed)
    coarse = spread * torch.randn(1, 20, 26 // scale + 1, 35 // scale + 1, generator=draw) - spread
    logits = torch.nn.functional.interpolate(coarse, (26, 35), mode="bicubic")[0]
    return Proposals(logits, Frame((104, 140), (97, 131)))


def random_classes(
    seed: int, num_queries: int, *, num_classes: int = 9, peak: float = 3.0
) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (peak * torch.randn(num_queries, num_classes + 1, generator=draw)).softmax(dim=-1)


@pytest.mark.parametrize("size", [(97, 131), (240, 150), (31, 200), (1, 1), (50, 33)], ids=str)
@pytest.mark.parametrize("spread", [0.1, 5.0, 40.0])
def test_random_masks_at_any_output_size(size: tuple[int, int], spread: float) -> None:
    check(random_masks(1, spread=spread), random_classes(2, 20), size, least=0.999)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1, 4, 13]),
    peak=st.sampled_from([0.01, 1.0, 8.0]),
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
)
def test_any_masks_and_classes(seed: int, scale: int, peak: float, size: tuple[int, int]) -> None:
    masks = random_masks(seed, scale=scale)
    check(masks, random_classes(seed + 1, 20, peak=peak), size, least=0.999)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 3))
def test_of_equal_scores_the_first_wins_everywhere(seed: int, steps: int) -> None:
    """Few distinct queries, repeated: most pixels are ties, and whole numbers resize exactly."""
    draw = torch.Generator().manual_seed(seed)
    distinct = torch.randint(-steps, steps + 1, (3, 24, 40), generator=draw).float()
    chosen = torch.randint(0, 3, (12,), generator=draw)
    probs = random_classes(seed, 3, num_classes=2)[chosen]
    probs = torch.stack([probs[:, 0], probs[:, 0], probs[:, 1], probs[:, 2]], dim=1)
    proposals = Proposals(distinct[chosen], Frame((96, 160), (96, 160)))
    check(proposals, probs, (96, 160), least=1.0)


def test_constant_masks_and_unclaimed_pixels_are_ties_too() -> None:
    proposals = Proposals(torch.full((5, 8, 8), -300.0), Frame((32, 32), (32, 32)))
    check(proposals, torch.full((5, 4), 0.25), (40, 40), least=1.0)
    proposals = Proposals(torch.zeros(5, 8, 8), Frame((32, 32), (32, 32)))
    check(proposals, torch.full((5, 4), 0.25), (40, 40), least=1.0)


def test_an_image_without_queries_has_the_first_class_everywhere() -> None:
    proposals = Proposals(torch.zeros(0, 8, 8), Frame((32, 32), (32, 32)))
    result = outputs(EVERY["all"], proposals, torch.zeros(0, 4), (40, 50))
    assert result.semantic.shape == (40, 50) and not result.semantic.any()
    assert result.panoptic.segments == () and len(result.instances.scores) == 0


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Proposals, Tensor]]:
    """What the shipped model proposes for two scenes, and its classes."""
    segmenter = frozenseg.load("shapes", device="cpu")
    predictor = segmenter.build_predictor(shapes_vocabulary("val"))
    found = []
    for index in (1, 4):
        pixels = ShapesDataset("val")[index].image
        image = InputImage(pixels.float(), pixels, size_of(pixels))
        with torch.inference_mode():
            (proposals,) = predictor.propose([image])
            found.append((proposals, predictor.class_probs(image, proposals).general))
    return found


def test_the_shipped_models_masks(scenes) -> None:
    for found, size in zip(scenes, [(256, 256), (333, 400)], strict=True):
        check(*found, size)


def test_class_maps_are_those_of_whole_maps_and_belong_to_the_labels(scenes) -> None:
    proposals, class_probs = scenes[0]
    for panoptic in (True, False):
        wanted = OutputSettings(panoptic=panoptic, instance=False, class_maps=True)
        ours = outputs(wanted, proposals, class_probs, (300, 256))
        whole = unfused_outputs(
            wanted, proposals, class_probs, is_thing_of(class_probs), (300, 256)
        )
        torch.testing.assert_close(ours.class_maps, whole.class_maps, rtol=0, atol=1e-5)
        assert torch.equal(ours.semantic, ours.class_maps.argmax(dim=0))


def test_proposals_are_the_masks_at_the_output_size() -> None:
    masks = random_masks(3)
    wanted = OutputSettings(semantic=False, panoptic=False, instance=False, proposals=True)
    found = outputs(wanted, masks, random_classes(4, 20), (120, 77)).extras[PROPOSALS]
    assert torch.equal(found, masks_at(masks, (120, 77)) > 0)


def test_few_queries_are_resized_where_a_scene_is_simple(scenes, monkeypatch) -> None:
    """The work follows what the scene shows; noise needs every query everywhere."""
    from frozenseg.inference import panoptic
    from frozenseg.inference.tiled_masks import pick

    computed: list[float] = []

    def counting(needed: Tensor) -> list[Tensor]:
        computed.append(needed.float().mean().item())
        return pick(needed)

    monkeypatch.setattr(panoptic, "pick", counting)
    proposals, class_probs = scenes[0]
    outputs(EVERY["panoptic"], proposals, class_probs, (512, 512))
    noise = proposals._replace(mask_logits=torch.randn(proposals.mask_logits.shape))
    outputs(EVERY["panoptic"], noise, torch.full_like(class_probs, 0.01), (512, 512))
    assert computed[0] < 0.3 and computed[1] > 0.99


@pytest.mark.parametrize("count", [1, 2, 9, 300])
def test_the_first_of_equal_values_is_the_argmax(count: int) -> None:
    values = torch.randint(0, 4, (count, 17, 5)).float()
    assert torch.equal(first_argmax(values), values.argmax(dim=0))
