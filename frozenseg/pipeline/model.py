"""A system: one member of each interface of the pipeline, held by a plain module."""

from torch import Tensor, nn

from frozenseg.pipeline.protocols import Fusion, Proposer, RegionClassifier, TextRows
from frozenseg.structures import InputImage, Proposals
from frozenseg.towers.roles import TextEncoder


class SegmentationModel(nn.Module):
    """Proposes masks and classifies them; a configuration chooses the members.

    Args:
        proposer: masks, and class logits if it has a classifier.
        region_classifier: what CLIP sees under each mask.
        text_encoder: embeds the class names for the proposer.
        fusion: the rule that combines the two classifications.
        region_text_encoder: embeds them for a region classifier of another CLIP space; None: it
            shares the proposer's.
    """

    proposer: Proposer
    region_classifier: RegionClassifier
    text_encoder: TextEncoder
    region_text_encoder: TextEncoder | None

    def __init__(
        self,
        *,
        proposer: Proposer,
        region_classifier: RegionClassifier,
        text_encoder: TextEncoder,
        fusion: Fusion,
        region_text_encoder: TextEncoder | None = None,
    ) -> None:
        super().__init__()
        self.proposer, self.region_classifier = proposer, region_classifier
        self.text_encoder, self.region_text_encoder = text_encoder, region_text_encoder
        self.fusion = fusion

    @property
    def has_trained_parts(self) -> bool:
        """False if the system consists of frozen towers alone."""
        return bool(self.proposer.trainable_state())

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns the trained weights, without those of frozen towers."""
        return self.proposer.trainable_state()

    def class_probs(
        self, image: InputImage, proposals: Proposals, text: TextRows, seen: Tensor
    ) -> Tensor:
        """Classifies one image's proposals: (Q, K + 1) probabilities, void last.

        Args:
            image: the image that the masks were proposed for.
            proposals: its masks.
            text: the vocabulary.
            seen: (K,) bool, classes of the training vocabulary.
        """
        if not self.fusion.uses_regions:
            return self.fusion(proposals.class_logits, None, seen, None)
        regions = self.region_classifier(image, proposals)
        clip_map = proposals.clip_map
        text = text.for_regions().for_image(None if clip_map is None else clip_map.features)
        logits = text.logits(regions.embeddings, regions.logit_scale)
        return self.fusion(proposals.class_logits, logits, seen, regions.judged)
