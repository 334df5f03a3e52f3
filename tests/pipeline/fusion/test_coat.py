import pytest
import torch
from torch import Tensor

from frozenseg.config import ConfigError
from frozenseg.inference.predictor import Predictor
from frozenseg.pipeline.fusion.coat import Coat, lower_void
from frozenseg.pipeline.fusion.geometric import Geometric
from tests.inference.test_predictor import image, predictor, proposals

SEEN = torch.tensor([True, False])
ALL = torch.tensor([True])
__all__ = ["predictor"]  # a fixture


def log(*probs: float) -> Tensor:
    return torch.tensor([probs], dtype=torch.float64).log()


def test_a_hand_worked_mask_gives_up_half_of_clips_certainty_of_its_void() -> None:
    # v = 0.6, o = (0.25, 0.75): v' = 0.6 (1 - 0.5 x 0.75) = 0.375, and CLIP alone decides
    coat = Coat(fusion=Geometric(alpha=1.0, beta=1.0), trust=0.5)
    probs = coat(log(0.1, 0.3, 0.6), log(0.25, 0.75), SEEN, ALL)
    expected = torch.tensor([[0.625 * 0.25, 0.625 * 0.75, 0.375]], dtype=torch.float64)
    torch.testing.assert_close(probs, expected)


@pytest.mark.parametrize("trust", [0.0, 0.25, 1.0])
def test_it_is_the_published_formula_and_leaves_the_classes_in_proportion(trust: float) -> None:
    generator = torch.Generator().manual_seed(3)
    proposer = 4 * torch.randn(50, 6, generator=generator, dtype=torch.float64)
    regions = 4 * torch.randn(50, 5, generator=generator, dtype=torch.float64)
    seen = torch.tensor([True, True, False, False, False])
    rule = Geometric(alpha=0.4, beta=0.8)
    judged = torch.ones(50, dtype=torch.bool)
    before, after = (
        fusion(proposer, regions, seen, judged) for fusion in (rule, Coat(fusion=rule, trust=trust))
    )
    void = before[:, -1] * (1 - trust * regions.softmax(dim=-1).amax(dim=-1))
    torch.testing.assert_close(after[:, -1], void)
    classes = before[:, :-1] / before[:, :-1].sum(dim=-1, keepdim=True)
    torch.testing.assert_close(after[:, :-1], classes * (1 - void)[:, None])


def test_a_void_that_rounds_to_one_keeps_its_classes() -> None:
    lowered = lower_void(torch.tensor([[0.0, 1.0, 60.0]]), torch.tensor([[30.0, 0.0]]), trust=0.5)
    probs = lowered.softmax(dim=-1)[0]
    torch.testing.assert_close(probs[2], torch.tensor(0.5))
    torch.testing.assert_close(probs[1] / probs[0], torch.tensor(1.0).exp())


def test_full_trust_in_a_certain_class_leaves_no_void() -> None:
    lowered = lower_void(torch.zeros(1, 3), torch.tensor([[200.0, 0.0]]), trust=1.0)
    assert lowered.softmax(dim=-1)[0].tolist() == [0.5, 0.5, 0.0]


def test_only_panoptic_output_takes_it_unless_all_outputs_are_asked_for(predictor) -> None:
    plain, coated, every = (predictor("convnext", alpha=0.4, beta=0.8) for _ in range(3))
    coat = Coat(fusion=plain.model.fusion, trust=0.9)
    coated.model.panoptic_fusion = coat
    every.model.fusion = coat
    shown = image(32, 32)
    without, panoptic, everywhere = (
        predict.class_probs(shown, proposals(predict)) for predict in (plain, coated, every)
    )
    assert torch.equal(panoptic.general, without.general)
    assert (panoptic.panoptic[:, -1] < without.panoptic[:, -1]).all()
    assert torch.equal(everywhere.general, everywhere.panoptic)
    torch.testing.assert_close(everywhere.general, panoptic.panoptic)
    results = [p.segment(shown, proposals(p)) for p in (plain, coated, every)]
    assert torch.equal(results[0].class_maps, results[1].class_maps)
    assert not torch.equal(results[0].class_maps, results[2].class_maps)


def test_clip_runs_once_and_also_where_the_decoder_alone_classifies(predictor) -> None:
    predict: Predictor = predictor("convnext", alpha=0.0, beta=0.0)
    predict.model.panoptic_fusion = Coat(fusion=predict.model.fusion, trust=0.5)
    calls = []
    predict.model.region_classifier.register_forward_hook(lambda *_: calls.append(1))
    found = predict.class_probs(image(32, 32), proposals(predict))
    assert len(calls) == 1
    assert (found.panoptic[:, -1] < found.general[:, -1]).all()


def test_a_fusion_without_void_cannot_take_it(small_system) -> None:
    with pytest.raises(ConfigError, match="which the fusion clip_alone ignores"):
        small_system(MODEL__OVRCOAT__CLIP_TRUST_WEIGHT=0.5, MODEL__PIPELINE__FUSION="clip_alone")


def test_the_key_builds_it(small_system) -> None:
    keys = {"MODEL__OVRCOAT__CLIP_TRUST_WEIGHT": 0.5}
    model = small_system(**keys)
    assert isinstance(model.panoptic_fusion, Coat) and isinstance(model.fusion, Geometric)
    model = small_system(**keys, MODEL__OVRCOAT__COAT_OUTPUTS="all")
    assert isinstance(model.fusion, Coat) and model.panoptic_fusion is None
    assert small_system().panoptic_fusion is None
