"""What COAT's case records beside the values of every model."""

from torch import Tensor

from frozenseg.pipeline.fusion.coat import Coat

NOT_COMPARED = (("inst_scores", "official scores average mask logits, not probabilities"),)


def coat_values(
    coat: Coat, class_logits: Tensor, region_logits: Tensor, seen: Tensor
) -> dict[str, Tensor]:
    """Returns both classifications and their fusion with and without COAT, by recorded name."""
    judged = seen.new_ones(len(class_logits))
    without = coat.fusion(class_logits, region_logits, seen, judged)
    probs = coat(class_logits, region_logits, seen, judged)
    return {
        "class_probs_without_void": without[:, :-1] / (1 - without[:, -1:]),
        "out_vocab_probs": region_logits.softmax(dim=-1),
        "log_probs_without_coat": (without + 1e-8).log(),
        "coat_log_probs": (probs + 1e-8).log(),
    }
