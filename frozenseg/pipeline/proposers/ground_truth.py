"""Proposer "ground truth": the annotated masks themselves, the oracle of the diagnosis."""

from collections.abc import Sequence

import torch
from torch import Tensor

from frozenseg.ops.maps import size_of
from frozenseg.pipeline.masks import masks_at
from frozenseg.pipeline.proposers.untrained import UntrainedProposer
from frozenseg.pipeline.protocols import Proposer, TextRows
from frozenseg.structures import Frame, InputImage, Proposals, Target

CERTAIN = 10.0  # mask logit inside an annotated mask; its negative outside
GRID_PX = 640  # masks are compared on every n-th pixel of larger images
MIN_GAIN = 1e-6  # of IoU, for a further query


class GroundTruth(UntrainedProposer):
    """Proposes the masks of ``InputImage.target``.

    Args:
        classifier: a proposer whose class logits are used: each annotated mask takes those of the
            query that fits it best, without void. None: no class logits.
        shared: several queries may make up one annotated mask.
        size_divisibility: images are padded to a multiple of this, pixels.
    """

    tasks = frozenset({"semantic", "panoptic", "instance"})

    def __init__(
        self,
        *,
        classifier: Proposer | None = None,
        shared: bool = False,
        size_divisibility: int = 32,
    ) -> None:
        super().__init__(size_divisibility=size_divisibility)
        self.classifier, self.shared = classifier, shared

    def propose(self, images: Sequence[InputImage], text: TextRows) -> list[Proposals]:
        """Returns the annotated masks of each image.

        Raises:
            ValueError: an image has no target.
        """
        if self.classifier is None:
            return [proposals_of(annotation_of(image)) for image in images]
        return [
            self.classified(annotation_of(image), found)
            for image, found in zip(images, self.classifier.propose(images, text), strict=True)
        ]

    def classified(self, target: Target, found: Proposals) -> Proposals:
        """Returns annotated masks with the class logits of the queries that fit them best.

        Args:
            target: the annotation.
            found: the classifier's proposals for the same image.
        """
        masks = target.masks.to(found.mask_logits.device)
        offered = masks_at(found, size_of(masks)) > 0
        return with_classes(target, found, assign_queries(offered, masks, shared=self.shared))


def with_classes(target: Target, found: Proposals, pairs: tuple[Tensor, Tensor]) -> Proposals:
    """Returns annotated masks with the class logits of assigned queries.

    A mask without a query has equal logits for all classes; void is impossible.

    Args:
        target: the annotation.
        found: proposals with class logits for the same image.
        pairs: segments and their queries, as ``assign_queries`` returns them.
    """
    assert found.class_logits is not None, "the classifier has class logits"
    segments, queries = pairs
    masks = target.masks.to(found.mask_logits.device)
    logits = found.class_logits.new_zeros(len(masks), found.class_logits.shape[-1])
    logits[segments.flip(0)] = found.class_logits[queries.flip(0)]  # the first query wins
    logits[:, -1] = -torch.inf
    truth = proposals_of(target._replace(masks=masks))
    return truth._replace(class_logits=logits, clip_map=found.clip_map)


def annotation_of(image: InputImage) -> Target:
    if image.target is None:
        raise ValueError("the ground-truth proposer needs images with a target")
    return image.target


def proposals_of(target: Target) -> Proposals:
    """Returns annotated masks as proposals at the size of the annotation."""
    size = size_of(target.masks)
    return Proposals((target.masks.float() * 2 - 1) * CERTAIN, Frame(size, size))


def assign_queries(found: Tensor, wanted: Tensor, *, shared: bool = False) -> tuple[Tensor, Tensor]:
    """Assigns queries to annotated segments so that the sum of IoU is largest.

    Each segment gets at most one query (Hungarian assignment). With ``shared``, the assignment is
    repeated on the pixels that are still uncovered until no IoU rises. A query can only be
    assigned to a segment that holds more than half of its mask.

    Args:
        found: (Q, H, W) bool, the queries' masks.
        wanted: (N, H, W) bool, the segments.
        shared: allow several queries per segment.

    Returns:
        Segments and their queries, (M,) each; a segment's first query comes first.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and rarely needed

    step = max(1, max(wanted.shape[-2:]) // GRID_PX)
    offered = found[:, ::step, ::step].flatten(1).float()
    inside = wanted[:, ::step, ::step].flatten(1).float()
    outside = 1 - inside
    allowed = inside @ offered.T > offered.sum(dim=1) / 2
    common, union = inside.new_zeros(len(inside), 1), inside.sum(dim=1, keepdim=True)
    pairs: list[tuple[int, int]] = []
    while True:
        more, spilled = inside @ offered.T, outside @ offered.T
        gain = (common + more) / (union + spilled).clamp(min=1) - common / union.clamp(min=1)
        gain = torch.where(allowed, gain, 0)
        rows, columns = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
        chosen = [
            (row, column)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if gain[row, column] > MIN_GAIN
        ]
        pairs += chosen
        if not (chosen and shared):
            break
        for row, column in chosen:  # pixels that the query covers count only once
            common[row] += more[row, column]
            union[row] += spilled[row, column]
            inside[row] *= 1 - offered[column]
            outside[row] *= 1 - offered[column]
            allowed[:, column] = False
    segments, queries = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.to(found.device)
    return segments, queries
