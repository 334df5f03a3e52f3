"""The mask ensemble (eq. 4): SAM's masks contribute to the class maps of unseen classes."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.ops.maps import size_of
from frozenseg.ops.precision import full_precision
from frozenseg.pipeline.protocols import TextRows
from frozenseg.pipeline.region_classifiers.pooled_map import PooledMap, stretched_masks
from frozenseg.sam_masks.generator import MaskSource
from frozenseg.structures import Frame, InputImage, Proposals


class SamProposals(NamedTuple):
    """SAM's masks of one image that show an unseen class with certainty."""

    mask_logits: Tensor  # (P, H, W) over the image without padding, at any size
    class_probs: Tensor  # (P, K + 1), void last


class ClassWeights(NamedTuple):
    """What each mask adds to the score of each class."""

    queries: Tensor  # (Q, K)
    sam: Tensor  # (P, K)


class MaskEnsemble(NamedTuple):
    """The source and the weights of SAM's masks (eq. 4).

    Args:
        source: SAM's masks of a (3, H, W) uint8 image.
        regions: classifies what is under each mask.
        epsilon: weight of the masks for unseen classes.
        threshold: least probability of the best unseen class for a mask to take part.
    """

    source: MaskSource
    regions: PooledMap
    epsilon: float = 0.2
    threshold: float = 0.5

    def masks_of(self, image: InputImage) -> Tensor:
        """Returns (P, H, W) SAM mask logits at the size of the original image."""
        return self.source(image.original).logits()

    def proposals(
        self,
        image: InputImage,
        proposals: Proposals,
        text: TextRows,
        seen: Tensor,
        *,
        void: Tensor | None,
    ) -> SamProposals:
        """Classifies SAM's masks and keeps those that show an unseen class.

        Args:
            image: with ``sam_masks``.
            proposals: of the image; its CLIP map is reused.
            text: the vocabulary.
            seen: (K,) bool.
            void: (D,) row that competes with the classes for a mask; None if there is none.
        """
        assert image.sam_masks is not None, "SAM's masks are computed before the ensemble"
        clip_map = self.regions.map_of(image, proposals)
        masks = image.sam_masks.to(clip_map.features)
        if not len(masks):
            return SamProposals(masks, masks.new_zeros(0, text.num_classes + 1))
        frame = Frame(size_of(masks), size_of(masks))
        regions = self.regions.embed(clip_map, stretched_masks(Proposals(masks, frame), clip_map))
        rows = text.for_regions().for_image(clip_map.features)
        void = void if rows is text else None  # it is a row of the proposer's CLIP space
        logits = rows.logits(regions.embeddings, regions.logit_scale, void=void)
        if void is None:
            logits = F.pad(logits, (0, 1), value=-torch.inf)
        return select_proposals(
            masks, logits, seen, threshold=self.threshold, visible=regions.judged
        )

    def weights(self, class_probs: Tensor, sam: SamProposals, seen: Tensor) -> ClassWeights:
        """Returns what queries and SAM's masks add to class scores (eq. 4)."""
        return ensemble_weights(class_probs, sam, seen, epsilon=self.epsilon)


def select_proposals(
    mask_logits: Tensor,
    class_logits: Tensor,
    seen: Tensor,
    *,
    threshold: float = 0.5,
    visible: Tensor | None = None,
) -> SamProposals:
    """Keeps the masks whose best unseen class has a probability above ``threshold``.

    The paper applies the threshold to any class (sec. 3.2), the official code to unseen classes
    only, as here: published numbers depend on it.

    Args:
        mask_logits: (P, H, W).
        class_logits: (P, K + 1) of CLIP, void last.
        seen: (K,) bool.
        threshold: probability, 0 to 1.
        visible: (P,) bool, masks that cover a cell of CLIP's map; the others are dropped. (The
            official code keeps them, all with the class of an empty region.)
    """
    probs = full_precision(class_logits).softmax(dim=-1)
    unseen = probs[:, :-1].masked_fill(seen, 0)
    keep = unseen.amax(dim=-1) > threshold
    if visible is not None:
        keep &= visible
    return SamProposals(mask_logits[keep], probs[keep])


def ensemble_weights(
    class_probs: Tensor, proposals: SamProposals, seen: Tensor, *, epsilon: float = 0.2
) -> ClassWeights:
    """Mixes class maps with those of SAM's masks, for unseen classes alone (eq. 4).

    Without a proposal, or with ``epsilon`` 0, the maps do not change.

    Args:
        class_probs: (Q, K + 1) of the queries, void last.
        proposals: SAM's masks with their classes.
        seen: (K,) bool.
        epsilon: weight of SAM's masks, 0 to 1.
    """
    share = torch.where(seen, 0.0, epsilon if len(proposals.class_probs) else 0.0)
    return ClassWeights(class_probs[:, :-1] * (1 - share), proposals.class_probs[:, :-1] * share)
