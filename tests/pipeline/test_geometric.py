import math

import pytest
import torch
from torch import Tensor

from frozenseg.pipeline.fusion.geometric import Geometric, ensemble_classes

SEEN = torch.tensor([True, False])


def logits_of(*probs: float) -> Tensor:
    """Logits of one query with these probabilities, void last."""
    return torch.tensor([probs]).log()


def test_a_query_worked_by_hand() -> None:
    """Decoder 0.5/0.5, CLIP 0.9/0.1: seen 0.5^0.6 * 0.9^0.4, unseen 0.5^0.2 * 0.1^0.8."""
    probs = ensemble_classes(logits_of(0.4, 0.4, 0.2), logits_of(0.45, 0.05), SEEN)
    seen, unseen = 0.5**0.6 * 0.9**0.4, 0.5**0.2 * 0.1**0.8
    expected = torch.tensor([[0.8 * seen / (seen + unseen), 0.8 * unseen / (seen + unseen), 0.2]])
    torch.testing.assert_close(probs, expected)


def test_weights_of_zero_return_the_decoders_own_probabilities() -> None:
    in_vocab, out_vocab = torch.randn(5, 3), torch.randn(5, 2)
    probs = ensemble_classes(in_vocab, out_vocab, SEEN, alpha=0.0, beta=0.0)
    torch.testing.assert_close(probs, in_vocab.softmax(dim=-1))


def test_weights_of_one_return_clips_classes_under_the_decoders_void() -> None:
    in_vocab, out_vocab = torch.randn(5, 3), torch.randn(5, 2)
    probs = ensemble_classes(in_vocab, out_vocab, SEEN, alpha=1.0, beta=1.0)
    void = in_vocab.softmax(dim=-1)[:, 2:]
    classes = out_vocab.softmax(dim=-1) * (1 - void)
    torch.testing.assert_close(probs, torch.cat([classes, void], dim=-1))


@pytest.mark.parametrize(("alpha", "beta"), [(0.4, 0.8), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("impossible", [0, 1])
def test_an_impossible_class_gives_no_nan_and_probabilities_add_up(impossible, alpha, beta) -> None:
    for zero_in, zero_out in ((True, False), (False, True), (True, True)):
        in_vocab, out_vocab = torch.zeros(1, 3), torch.zeros(1, 2)
        in_vocab[0, impossible] = -math.inf if zero_in else 0.0
        out_vocab[0, impossible] = -math.inf if zero_out else 0.0
        probs = ensemble_classes(in_vocab, out_vocab, SEEN, alpha=alpha, beta=beta)
        assert not probs.isnan().any()
        torch.testing.assert_close(probs.sum(dim=-1), torch.ones(1))
        weight = (alpha, beta)[impossible]
        if (zero_in and weight < 1) or (zero_out and weight > 0):
            assert probs[0, impossible] == 0


def test_probabilities_that_underflow_still_rank() -> None:
    in_vocab = torch.tensor([[-300.0, 0.0, 0.0]])
    out_vocab = torch.tensor([[0.0, -300.0]])
    probs = ensemble_classes(in_vocab, out_vocab, torch.tensor([True, True]), alpha=0.4, beta=0.8)
    assert probs[0, 1] > probs[0, 0] >= 0


def test_clip_is_left_out_for_a_mask_without_a_cell() -> None:
    in_vocab, out_vocab = torch.randn(2, 3), torch.randn(2, 2)
    valid = torch.tensor([True, False])
    probs = ensemble_classes(in_vocab, out_vocab, SEEN, valid=valid)
    torch.testing.assert_close(probs[1], in_vocab[1].softmax(dim=-1))
    torch.testing.assert_close(probs[0], ensemble_classes(in_vocab, out_vocab, SEEN)[0])


def test_a_vocabulary_of_one_class_leaves_it_what_void_leaves() -> None:
    probs = ensemble_classes(torch.tensor([[1.0, 0.0]]), torch.tensor([[-3.0]]), SEEN[:1])
    torch.testing.assert_close(probs, torch.tensor([[1.0, 0.0]]).softmax(dim=-1))


def test_the_rule_ignores_clip_for_unjudged_masks_only_if_told_so() -> None:
    in_vocab, out_vocab = torch.randn(2, 3), torch.randn(2, 2)
    judged = torch.tensor([True, False])
    every = Geometric()(in_vocab, out_vocab, SEEN, judged)
    valid_only = Geometric(valid_only=True)(in_vocab, out_vocab, SEEN, judged)
    torch.testing.assert_close(every, ensemble_classes(in_vocab, out_vocab, SEEN))
    torch.testing.assert_close(valid_only[0], every[0])
    torch.testing.assert_close(valid_only[1], in_vocab[1].softmax(dim=-1))


def test_without_weights_no_regions_are_needed() -> None:
    alone = Geometric(alpha=0.0, beta=0.0)
    in_vocab = torch.randn(2, 3)
    assert not alone.uses_regions and Geometric().uses_regions
    torch.testing.assert_close(alone(in_vocab, None, SEEN, None), in_vocab.softmax(dim=-1))


def test_a_proposer_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="class logits"):
        Geometric()(None, torch.randn(2, 2), SEEN, torch.tensor([True, True]))
