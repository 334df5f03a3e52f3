"""The four interfaces of the pipeline, and the module that holds one member of each.

A system proposes masks, asks CLIP what is under each, and fuses the two classifications::

    proposals = model.proposer.propose(images, text)[i]
    regions = model.region_classifier(image, proposals)
    logits = text.logits(regions.embeddings, regions.logit_scale)
    class_probs = model.fusion(proposals.class_logits, logits, seen, regions.judged)

Members do not know each other. Everything they exchange is a record of ``frozenseg.structures``.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from frozenseg.ops.maps import Size
from frozenseg.structures import InputImage, Proposals, Regions


class TextRows(Protocol):
    """A vocabulary's classes in CLIP's text space, adapted to an image where they depend on it.

    ``frozenseg.vocabulary.TextClassifier`` is the member whose rows depend on the words alone.
    """

    @property
    def num_classes(self) -> int:
        """K, without void."""
        ...

    def for_image(self, clip_map: Tensor | None) -> "TextRows":
        """Returns the rows for images with this (B, C, h, w) CLIP map; None if there is no map."""
        ...

    def for_regions(self) -> "TextRows":
        """Returns the rows in the CLIP space of the region classifier."""
        ...

    def logits(
        self, embeddings: Tensor, logit_scale: Tensor | float, *, void: Tensor | None = None
    ) -> Tensor:
        """Returns scaled cosines with every class: (..., Q, K), or K + 1 columns with ``void``.

        Args:
            embeddings: (..., Q, D) of any length.
            logit_scale: factor on the cosines.
            void: (D,) embedding of the last column.
        """
        ...


class Trainable(Protocol):
    """A member that may have trained weights besides its frozen towers."""

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns the trained weights, without those of frozen towers."""
        ...

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Loads trained weights; ``source`` is the name used in error messages."""
        ...


class Proposer(Trainable, Protocol):
    """Proposes masks of images, and classifies them if it can. Members are ``nn.Module``."""

    tasks: frozenset[str]  # of "semantic", "panoptic", "instance": which outputs it supports

    @property
    def void(self) -> Tensor | None:
        """(D,) row of "no object" beside the classes; None if there is none."""
        ...

    def padded_size(self, sizes: Sequence[Size]) -> Size:
        """Returns the size that images of these sizes are padded to in one batch."""
        ...

    def propose(self, images: Sequence[InputImage], text: TextRows) -> list[Proposals]:
        """Returns proposals for each image; the images share one padded size."""
        ...


class RegionClassifier(Protocol):
    """Embeds what CLIP sees under each mask. Members are ``nn.Module``."""

    @property
    def trained_parts(self) -> Mapping[str, nn.Module]:
        """Parts that are trained and stored beside the proposer, by name; CLIP is none of them."""
        ...

    def __call__(self, image: InputImage, proposals: Proposals) -> Regions:
        """Returns one embedding per proposed mask."""
        ...


class TextTransfer(Protocol):
    """Adapts text rows to an image. Members are ``nn.Module``."""

    @property
    def network(self) -> nn.Module:
        """The trained part."""
        ...

    def __call__(self, rows: Tensor, clip_map: Tensor) -> Tensor:
        """Returns the (S, D) rows for an image with this (1, C, h, w) CLIP map."""
        ...


class Fusion(Protocol):
    """Fuses the two classifications of an image's masks."""

    @property
    def uses_regions(self) -> bool:
        """False if the rule ignores the region classifier, which then does not run."""
        ...

    def __call__(
        self,
        proposer_logits: Tensor | None,
        region_logits: Tensor | None,
        seen: Tensor,
        judged: Tensor | None,
    ) -> Tensor:
        """Returns (Q, K + 1) class probabilities, void last.

        Args:
            proposer_logits: (Q, K + 1), void last; None if the proposer does not classify.
            region_logits: (Q, K) of the region classifier; None if ``uses_regions`` is False.
            seen: (K,) bool, classes of the training vocabulary.
            judged: (Q,) bool, masks that the region classifier could see.
        """
        ...
