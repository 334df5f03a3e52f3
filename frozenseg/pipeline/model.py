"""A system: one member of each interface of the pipeline, held by a plain module."""

from copy import copy
from typing import NamedTuple

from torch import Tensor, nn

from frozenseg.pipeline.protocols import Fusion, Proposer, RegionClassifier, TextRows, TextTransfer
from frozenseg.structures import InputImage, Proposals, Regions
from frozenseg.towers.roles import TextEncoder


class ClassProbs(NamedTuple):
    """(Q, K + 1) class probabilities of an image's masks, void last."""

    general: Tensor  # for every output without a rule of its own
    panoptic: Tensor


class SegmentationModel(nn.Module):
    """Proposes masks and classifies them; a configuration chooses the members.

    Args:
        proposer: masks, and class logits if it has a classifier.
        region_classifier: what CLIP sees under each mask.
        text_encoder: embeds the class names for the proposer.
        fusion: the rule that combines the two classifications.
        panoptic_fusion: the rule for panoptic output; None: the same.
        text_transfer: adapts the region classifier's text rows to the image; None: it does not.
        region_text_encoder: embeds them for a region classifier of another CLIP space; None: it
            shares the proposer's.
    """

    proposer: Proposer
    region_classifier: RegionClassifier
    text_encoder: TextEncoder
    region_text_encoder: TextEncoder | None
    panoptic_fusion: Fusion | None
    text_transfer: TextTransfer | None

    def __init__(
        self,
        *,
        proposer: Proposer,
        region_classifier: RegionClassifier,
        text_encoder: TextEncoder,
        fusion: Fusion,
        panoptic_fusion: Fusion | None = None,
        text_transfer: TextTransfer | None = None,
        region_text_encoder: TextEncoder | None = None,
    ) -> None:
        super().__init__()
        self.proposer, self.region_classifier = proposer, region_classifier
        self.text_encoder, self.region_text_encoder = text_encoder, region_text_encoder
        self.fusion, self.panoptic_fusion = fusion, panoptic_fusion
        self.text_transfer = text_transfer

    def with_fusions(self, fusion: Fusion, panoptic: Fusion | None = None) -> "SegmentationModel":
        """Returns a model with other rules that shares all other members."""
        other = copy(self)
        other.fusion, other.panoptic_fusion = fusion, panoptic
        return other

    @property
    def has_trained_parts(self) -> bool:
        """False if the system consists of frozen towers alone."""
        return bool(self.proposer.trainable_state())

    @property
    def trained_members(self) -> dict[str, nn.Module]:
        """Trained modules beside the proposer, by the prefix of their weights' names in files."""
        parts = self.region_classifier.trained_parts
        members = {f"region_classifier.{name}.": part for name, part in parts.items()}
        if self.text_transfer is not None:
            members["text_transfer.network."] = self.text_transfer.network
        return members

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns the trained weights, without those of frozen towers."""
        members = {
            prefix + name: value.detach()
            for prefix, part in self.trained_members.items()
            for name, value in part.named_parameters()
        }
        return self.proposer.trainable_state() | members

    def class_probs(
        self, image: InputImage, proposals: Proposals, text: TextRows, seen: Tensor
    ) -> ClassProbs:
        """Classifies one image's proposals.

        Args:
            image: the image that the masks were proposed for.
            proposals: its masks.
            text: the vocabulary.
            seen: (K,) bool, classes of the training vocabulary.
        """
        regions = self.region_classifier(image, proposals) if self.uses_regions else None
        return self.fuse(proposals, regions, text, seen)

    @property
    def uses_regions(self) -> bool:
        """False if no rule reads the region classifier, which then does not run."""
        return any(rule.uses_regions for rule in (self.fusion, self.panoptic_fusion or self.fusion))

    def fuse(
        self, proposals: Proposals, regions: Regions | None, text: TextRows, seen: Tensor
    ) -> ClassProbs:
        """Fuses the two classifications of one image's proposals.

        Args:
            proposals: masks with the proposer's classes.
            regions: what CLIP sees under them; None if ``uses_regions`` is False.
            text: the vocabulary.
            seen: (K,) bool, classes of the training vocabulary.
        """
        logits = judged = None
        if regions is not None:
            clip_map = proposals.clip_map
            rows = text.for_regions().for_image(None if clip_map is None else clip_map.features)
            logits = rows.logits(regions.embeddings, regions.logit_scale)
            judged = regions.judged
        general = self.fusion(proposals.class_logits, logits, seen, judged)
        if self.panoptic_fusion is None:
            return ClassProbs(general, general)
        panoptic = self.panoptic_fusion(proposals.class_logits, logits, seen, judged)
        return ClassProbs(general, panoptic)
