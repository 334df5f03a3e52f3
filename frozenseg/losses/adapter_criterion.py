"""The losses of a Mask-Adapter: classes, and consistency of predicted and annotated masks.

https://arxiv.org/abs/2412.04533, sec. 3.3.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from frozenseg.losses.adapter_masks import PADDING


@dataclass(frozen=True, kw_only=True)
class AdapterCriterion:
    """Weighs cross-entropy of all masks and consistency of pairs.

    Args:
        class_weight: of the cross-entropy.
        cos_weight: of the consistency.
    """

    class_weight: float = 2.0
    cos_weight: float = 5.0

    def __call__(
        self, class_logits: Tensor, class_ids: Tensor, embeddings: Tensor, *, num_pairs: int
    ) -> dict[str, Tensor]:
        """Returns the weighted losses of a batch.

        Args:
            class_logits: (B, N, K + 1), void last.
            class_ids: (B, N) int64; rows with ``PADDING`` have no cross-entropy.
            embeddings: (B, N, D) of the masks; the last ``num_pairs`` are the partners of those
                before them.
            num_pairs: pairs per image; 0: no consistency, as in the warm-up.
        """
        losses = {"loss_ce": self.class_weight * mean_cross_entropy(class_logits, class_ids)}
        if num_pairs:
            predicted = embeddings[:, -2 * num_pairs : -num_pairs]
            annotated = embeddings[:, -num_pairs:]
            losses["loss_cosine"] = self.cos_weight * inconsistency(predicted, annotated)
        return losses


def mean_cross_entropy(class_logits: Tensor, class_ids: Tensor) -> Tensor:
    """Returns the mean over masks with a class; 0 if there is none."""
    logits, wanted = class_logits.float().flatten(0, 1), class_ids.flatten()
    total = F.cross_entropy(logits, wanted, ignore_index=PADDING, reduction="sum")
    return total / (wanted != PADDING).sum().clamp(min=1)


def inconsistency(predicted: Tensor, annotated: Tensor) -> Tensor:
    """Returns 1 - the mean cosine of (..., D) pairs; no gradient flows to the annotated side.

    Pairs of padding count, too: their masks are equal, so their cosine is 1.
    """
    return 1 - F.cosine_similarity(predicted.float(), annotated.float().detach(), dim=-1).mean()
