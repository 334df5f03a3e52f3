"""Hand-worked answers to one picture: left a thing, right a stuff region, 16 x 16 pixels."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from frozenseg.analysis.diagnosis import (
    AS_PREDICTED,
    BOTH,
    TRUE_CLASSES,
    TRUE_MASKS,
    Diagnosis,
)
from frozenseg.inference.outputs import OutputSettings
from frozenseg.inference.predictor import Predictor
from frozenseg.pipeline.fusion.geometric import Geometric
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.structures import Frame, InputImage, PanopticMap, Proposals, Regions, Sample, Segment
from frozenseg.vocabulary.text_classifier import TextClassifier

SIDE = 16
DOG, GRASS, CAT, VOID = range(4)
PQ, MIOU = "panoptic/PQ", "semantic/mIoU"


def columns(start: int, stop: int) -> Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[:, start:stop] = True
    return mask


LEFT, RIGHT = columns(0, 8), columns(8, 16)
# a quarter; where the rest of the left half is, the other mask is a little less unlikely
QUARTER = torch.where(columns(0, 4), 20.0, -20.0)
REST = torch.where(RIGHT, 20.0, torch.where(columns(4, 8), -10.0, -20.0))


class FixedProposer(nn.Module):
    """Answers with these (Q,) classes and (Q, 16, 16) mask logits, whatever it sees."""

    tasks = frozenset({"semantic", "panoptic"})
    void = None

    def __init__(self, class_ids: list[int], mask_logits: Tensor) -> None:
        super().__init__()
        self.class_logits = 20.0 * nn.functional.one_hot(torch.tensor(class_ids), 4)
        self.mask_logits = mask_logits
        self.clip_logits: Callable[[Tensor], Tensor] = torch.Tensor

    def padded_size(self, sizes: list[tuple[int, int]]) -> tuple[int, int]:
        return sizes[0]

    def propose(self, images: list[InputImage], text: TextClassifier) -> list[Proposals]:
        frame = Frame((SIDE, SIDE), (SIDE, SIDE))
        return [Proposals(self.mask_logits, frame, self.class_logits) for _ in images]


class ByMask(nn.Module):
    """Embeds regions in three dimensions, one for each class, as the proposer says."""

    def __init__(self, proposer: FixedProposer) -> None:
        super().__init__()
        self.proposer = proposer

    def forward(self, image: InputImage, proposals: Proposals) -> Regions:
        embeddings = self.proposer.clip_logits(proposals.mask_logits)
        return Regions(embeddings, torch.ones(len(embeddings), dtype=torch.bool), 20.0)


def sample(*, panoptic: bool = True) -> Sample:
    ids = torch.where(LEFT, 1, 2).int()
    segments = (Segment(1, DOG, True, area=128), Segment(2, GRASS, False, area=128))
    return Sample(
        image=torch.zeros(3, SIDE, SIDE, dtype=torch.uint8),
        image_id=1,
        file_name="scene.png",
        panoptic=PanopticMap(ids, segments) if panoptic else None,
        semantic=torch.where(LEFT, DOG, GRASS),
    )


def diagnosis(model: FixedProposer, **ensemble: float) -> Diagnosis:
    system = SegmentationModel(
        proposer=model,
        region_classifier=ByMask(model),
        text_encoder=None,
        fusion=Geometric(**{"alpha": 0.0, "beta": 0.0, **ensemble}),
    )
    predictor = Predictor(
        model=system,
        text=TextClassifier(torch.eye(3), torch.arange(3)),
        is_thing=torch.tensor([True, False, True]),
        seen=torch.tensor([True, True, False]),
        settings=OutputSettings(instance=False),
    )
    return Diagnosis(predictor, names=("dog", "grass", "cat"))


def scores(model: FixedProposer, measure: str, **ensemble: float) -> dict[str, float]:
    found = diagnosis(model, **ensemble)
    found.add(torch.zeros(3, SIDE, SIDE), sample())
    return {variant: round(values[measure], 3) for variant, values in found.scores().items()}


def sure(*masks: Tensor) -> Tensor:
    return torch.stack([torch.where(mask, 20.0, -20.0) for mask in masks])


@pytest.mark.parametrize("measure", [PQ, MIOU])
def test_a_perfect_model_loses_nothing(measure: str) -> None:
    perfect = FixedProposer([DOG, GRASS, VOID], sure(LEFT, RIGHT, columns(3, 5)))
    every = (AS_PREDICTED, TRUE_CLASSES, TRUE_MASKS, BOTH)
    assert scores(perfect, measure) == dict.fromkeys(every, 100.0)


@pytest.mark.parametrize("measure", [PQ, MIOU])
def test_wrong_classes_are_mended_by_true_classes_alone(measure: str) -> None:
    confused = FixedProposer([GRASS, DOG], sure(LEFT, RIGHT))
    expected = {AS_PREDICTED: 0.0, TRUE_CLASSES: 100.0, TRUE_MASKS: 0.0, BOTH: 100.0}
    assert scores(confused, measure) == expected


# PQ: a mask of IoU 1/2 matches nothing, so the dog has 0 and grass 1. IoU: dog 1/2, and grass
# takes the other 64 pixels, 128/192.
@pytest.mark.parametrize(("measure", "value"), [(PQ, 50.0), (MIOU, 58.333)])
def test_broken_masks_are_mended_by_true_masks_alone(measure: str, value: float) -> None:
    clumsy = FixedProposer([DOG, GRASS], torch.stack([QUARTER, REST]))
    expected = {AS_PREDICTED: value, TRUE_CLASSES: value, TRUE_MASKS: 100.0, BOTH: 100.0}
    assert scores(clumsy, measure) == expected


@pytest.mark.parametrize(("measure", "value"), [(PQ, 50.0), (MIOU, 58.333)])
def test_where_both_fail_each_truth_mends_its_own_part(measure: str, value: float) -> None:
    bad = FixedProposer([GRASS, DOG], torch.stack([QUARTER, REST]))
    found = scores(bad, measure)
    assert found[TRUE_CLASSES] == value
    assert (found[TRUE_MASKS], found[BOTH]) == (0.0, 100.0)


def test_clip_judges_what_is_under_the_true_masks() -> None:
    def by_area(mask_logits: Tensor) -> Tensor:
        """Right about whole halves only."""
        masks = mask_logits > 0
        whole = masks.flatten(1).sum(dim=-1) == LEFT.sum()
        side = torch.where(masks[:, 0, 0], DOG, GRASS)
        return nn.functional.one_hot(torch.where(whole, side, CAT), 3).float()

    clumsy = FixedProposer([CAT, CAT], torch.stack([QUARTER, REST]))
    clumsy.clip_logits = by_area
    assert scores(clumsy, MIOU, alpha=1.0, beta=1.0)[TRUE_MASKS] == 100.0
    assert scores(clumsy, MIOU, alpha=0.0, beta=0.0)[TRUE_MASKS] == 0.0


def test_a_class_in_pieces_may_have_a_query_for_each() -> None:
    pieces = FixedProposer([CAT, CAT, CAT], sure(columns(0, 5), columns(5, 8), RIGHT))
    assert scores(pieces, MIOU)[TRUE_CLASSES] == 100.0
    # as one segment, the left half has the larger piece: PQ is (5/8 + 1) / 2
    assert scores(pieces, PQ)[TRUE_CLASSES] == 81.25


def test_only_what_is_annotated_is_measured() -> None:
    found = diagnosis(FixedProposer([DOG, GRASS], sure(LEFT, RIGHT)))
    found.add(torch.zeros(3, SIDE, SIDE), sample(panoptic=False))
    names = {"semantic/mIoU", "semantic/seen/mIoU"}  # the cat, unseen, is not there
    assert all(set(values) == names for values in found.scores().values())
