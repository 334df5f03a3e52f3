"""The proposer that answers with the annotation: 16 x 16 pixels, worked by hand."""

import pytest
import torch
from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.pipeline.proposers.ground_truth import GroundTruth, assign_queries
from frozenseg.structures import Frame, InputImage, Proposals, Target
from frozenseg.vocabulary.text_classifier import TextClassifier

SIDE = 16
TEXT = TextClassifier(torch.eye(3), torch.arange(3))


def columns(start: int, stop: int) -> Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[:, start:stop] = True
    return mask


LEFT, RIGHT = columns(0, 8), columns(8, 16)


def image(*masks: Tensor) -> InputImage:
    pixels = torch.zeros(3, 2 * SIDE, 2 * SIDE, dtype=torch.uint8)
    target = Target(torch.arange(len(masks)), torch.stack(masks)) if masks else None
    return InputImage(pixels, pixels[:, :SIDE, :SIDE], (SIDE, SIDE), target=target)


class TwoQueries(nn.Module):
    """Proposes the left half as class 2 and two columns of the right half as class 1."""

    def propose(self, images: list[InputImage], text: TextClassifier) -> list[Proposals]:
        masks = torch.where(torch.stack([LEFT, columns(9, 11)]), 5.0, -5.0)
        logits = torch.tensor([[0.0, 0.0, 9.0, 1.0], [0.0, 9.0, 0.0, 1.0]])
        return [Proposals(masks, Frame((SIDE, SIDE), (SIDE, SIDE)), logits) for _ in images]


def test_the_annotated_masks_come_back_at_their_own_size() -> None:
    (found,) = GroundTruth().propose([image(LEFT, RIGHT)], TEXT)
    assert torch.equal(found.mask_logits > 0, torch.stack([LEFT, RIGHT]))
    assert found.frame == Frame((SIDE, SIDE), (SIDE, SIDE))
    assert found.class_logits is None and found.clip_map is None


def test_each_mask_takes_the_classes_of_the_query_that_fits_it_best() -> None:
    oracle = GroundTruth(classifier=TwoQueries())
    (found,) = oracle.propose([image(RIGHT, LEFT)], TEXT)
    assert found.class_logits[:, :-1].argmax(dim=-1).tolist() == [1, 2]
    assert found.class_logits[:, -1].isneginf().all(), "an annotated mask is never void"


def test_a_mask_without_a_query_is_undecided() -> None:
    oracle = GroundTruth(classifier=TwoQueries())
    (found,) = oracle.propose([image(columns(12, 16))], TEXT)
    assert found.class_logits[0, :-1].tolist() == [0.0, 0.0, 0.0]


def test_an_image_without_annotation_is_an_error() -> None:
    with pytest.raises(ValueError, match="target"):
        GroundTruth().propose([image()], TEXT)


def test_it_has_no_weights_and_takes_none() -> None:
    assert GroundTruth().trainable_state() == {}
    with pytest.raises(UserError, match=r"a\.pth"):
        GroundTruth().load_trainable_state({"a": torch.zeros(1)}, source="a.pth")


class TestAssignQueries:
    def pairs(self, found: list[Tensor], wanted: list[Tensor], **options: bool):
        segments, queries = assign_queries(torch.stack(found), torch.stack(wanted), **options)
        return list(zip(segments.tolist(), queries.tolist(), strict=True))

    def test_the_sum_of_iou_counts(self) -> None:
        # query 0 suits segment 0 best (9/12 against 8/12), yet segment 1 has nothing else
        found, wanted = [columns(0, 9), columns(0, 8)], [columns(0, 12), columns(6, 12)]
        assert self.pairs(found, wanted) == [(0, 0)]  # a third of it is on segment 1: not most
        found = [columns(5, 12), columns(0, 8)]
        assert self.pairs(found, wanted) == [(0, 1), (1, 0)]

    def test_a_mask_that_is_mostly_elsewhere_is_no_ones(self) -> None:
        assert self.pairs([columns(6, 16)], [columns(0, 8)]) == []

    def test_queries_are_shared_until_none_helps(self) -> None:
        found = [columns(0, 3), columns(3, 7), columns(0, 2), columns(12, 14)]
        assert self.pairs(found, [LEFT], shared=True) == [(0, 1), (0, 0)]
        assert self.pairs(found, [LEFT]) == [(0, 1)]
