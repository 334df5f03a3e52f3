import pytest
import torch
from torch import nn

from frozenseg.analysis.speed import (
    ENSEMBLE,
    POSTPROCESSING,
    SAM_MASKS,
    SAMPLE_WORK,
    STAGES,
    StageClock,
    build_predictor,
    count_multiply_adds,
    count_parameters,
    measure_speed,
)
from frozenseg.config import load_config, model_names
from frozenseg.errors import UserError
from frozenseg.structures import InputImage

CPU = ("MODEL.DEVICE", "cpu")


def shapes(*overrides: str):
    return load_config("shapes/frozenseg.yaml", [*CPU, *overrides])


def test_parameters_are_those_of_table_6():
    """26.5 M trained, 293.5 M frozen without the text encoder."""
    sizes = {size.part: size for size in count_parameters(load_config("frozenseg_convnext_large"))}
    assert sizes["all"].trained == pytest.approx(26.5e6, rel=0.01)
    frozen = sizes["all"].frozen - sizes["CLIP text encoder"].frozen
    assert frozen == pytest.approx(293.5e6, rel=0.001)


def test_multiply_adds_of_one_more_encoder_layer_are_what_its_shapes_say():
    """A 64 x 64 image has 8 x 8 + 4 x 4 + 2 x 2 = 84 tokens of width 64; 8 heads, 3 x 4 points."""
    one, two = (
        count_multiply_adds(
            shapes(
                *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", str(layers)),
                *("MODEL.FROZEN_SEG.FEATURE_INJECTOR_LAYERS", "()"),  # no SAM branch
            ),
            (64, 64),
            68,
        )["pixel decoder"]
        for layers in (1, 2)
    )
    tokens, width, hidden, samples = 84, 64, 256, 8 * 3 * 4
    projections = 2 * width * width + width * (2 * samples + samples)  # values, result; offsets
    feed_forward = 2 * width * hidden
    sampling = SAMPLE_WORK * samples * (width // 8)
    assert two - one == tokens * (projections + feed_forward + sampling)


def test_parts_add_up_and_the_baseline_lacks_sam():
    counts = count_multiply_adds(shapes(), (256, 256), 68)
    assert counts["all"] == sum(counts.values()) - counts["all"]
    assert all(counts[part] > 0 for part in STAGES)
    baseline = load_config("ablations/shapes/table4_2_baseline.yaml")
    assert count_multiply_adds(baseline, (256, 256), 68)["SAM image encoder"] == 0


def test_a_larger_image_takes_more_of_clip_and_as_much_of_sam():
    small, large = (count_multiply_adds(shapes(), (side, 256), 68) for side in (256, 512))
    assert large["CLIP image encoder"] == 2 * small["CLIP image encoder"]
    assert large["SAM image encoder"] == small["SAM image encoder"]


def test_every_stage_is_timed_and_results_are_not_disturbed():
    predictor, num_rows = build_predictor(shapes(), random=True)
    assert num_rows == 68
    pixels = torch.randint(256, (3, 64, 96), dtype=torch.uint8)
    images = [InputImage(pixels, pixels, (64, 96))]
    before = predictor(images)[0].semantic
    speed = measure_speed(predictor, images)
    assert set(speed.stages) == {*STAGES, ENSEMBLE, POSTPROCESSING}
    assert all(spent > 0 for spent in speed.stages.values())
    assert speed.images_per_second > 0 and speed.peak_memory_gib > 0
    assert torch.equal(predictor(images)[0].semantic, before)
    assert not predictor.model.proposer.backbone._forward_hooks


def test_masks_of_sam_are_made_every_time_where_they_are_used():
    keys = ("ENABLED", "True", "POINTS_PER_SIDE", "2")
    keys = [k if i % 2 else f"MODEL.MASK_ENSEMBLE.{k}" for i, k in enumerate(keys)]
    predictor, _ = build_predictor(shapes(*keys), random=True)
    pixels = torch.zeros(3, 64, 64, dtype=torch.uint8)
    speed = measure_speed(predictor, [InputImage(pixels, pixels, (64, 64))], warm_up=0)
    assert SAM_MASKS in speed.stages


def test_augmented_results_are_no_single_pass():
    with pytest.raises(UserError, match=r"TEST\.AUG"):
        build_predictor(
            shapes("TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64,)"), random=True
        )


def test_a_stage_is_the_time_between_its_ends(monkeypatch: pytest.MonkeyPatch):
    times = iter([1.0, 3.0, 10.0, 10.5, 20.0, 24.0, 30.0, 31.0])
    monkeypatch.setattr("frozenseg.analysis.speed._now", lambda device: next(times))
    clock = StageClock(torch.device("cpu"))
    with clock.stage("first"):
        pass
    with clock.stage("first"):
        pass
    layer = nn.Identity()
    with clock.hooked("second", layer):
        layer(0)
        layer(0)
    layer(0)
    assert clock.medians() == {"first": 1250.0, "second": 2500.0}


def test_the_shipped_model_is_measured_with_its_own_weights():
    config, weights = model_names()["shapes"]
    predictor, _ = build_predictor(load_config(config, [*CPU, "MODEL.WEIGHTS", str(weights)]))
    assert predictor.settings.panoptic and predictor.text.num_classes == 68
