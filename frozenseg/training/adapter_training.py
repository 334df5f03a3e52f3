"""The training of a Mask-Adapter on a frozen decoder, or without one (its warm-up)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from frozenseg.io.weight_files import load_exactly
from frozenseg.losses.adapter_criterion import AdapterCriterion
from frozenseg.losses.adapter_masks import annotated_masks, matching_pairs, mixed_masks
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.protocols import TextRows
from frozenseg.pipeline.region_classifiers.mask_adapter import AdaptedMaps
from frozenseg.structures import Target
from frozenseg.training.step import Losses

VOID = "void_embedding.weight"


class AdapterTraining(nn.Module):
    """A system of which the adapter and the void embedding learn; all else is frozen.

    Args:
        system: proposer FrozenSeg or FC-CLIP, region classifier ``AdaptedMaps``.
        criterion: the losses.
        num_annotated: annotated masks per image.
        num_pairs: predicted masks per image, and as many annotated partners. 0 is the warm-up: the
            decoder does not run, and checkpoints leave it out.
        least_iou: of a predicted mask and its partner.
    """

    def __init__(
        self,
        system: SegmentationModel,
        *,
        criterion: AdapterCriterion,
        num_annotated: int = 16,
        num_pairs: int = 8,
        least_iou: float = 0.7,
    ) -> None:
        super().__init__()
        assert isinstance(system.proposer, FrozenSeg), "the adapter's decoder"
        assert isinstance(system.region_classifier, AdaptedMaps), "the adapter to train"
        self.system = system.requires_grad_(False)
        self.proposer, self.regions = system.proposer, system.region_classifier
        self.proposer.void_embedding.requires_grad_(True)
        self.regions.adapter.requires_grad_(True)
        self.criterion = criterion
        self.num_annotated, self.num_pairs = num_annotated, num_pairs
        self.least_iou = least_iou

    def train(self, mode: bool = True) -> "AdapterTraining":
        """Keeps the frozen parts in eval mode."""
        super().train(False)
        self.regions.adapter.train(mode)
        return self

    def forward(
        self,
        images: list[Tensor],
        targets: Sequence[Target],
        text: TextRows,
        *,
        num_targets: float | None = None,
    ) -> Losses:
        """Returns the weighted losses; all are means, so ``num_targets`` does not matter."""
        size = self.proposer.padded_size([size_of(image) for image in images])
        features, mask_logits = self._frozen(images, text)
        rows = []
        for index, target in enumerate(targets):
            masks = annotated_masks(target, size, count=self.num_annotated)
            if mask_logits is not None:
                pairs = matching_pairs(
                    mask_logits[index],
                    target,
                    size,
                    least=self.least_iou,
                    threshold=self.regions.threshold,
                    count=self.num_pairs,
                )
                masks = mixed_masks(masks, pairs)
            rows.append(masks)
        embeddings = torch.stack(
            [self.regions.embed(f[None], row.masks) for f, row in zip(features, rows, strict=True)]
        )
        return self.losses(embeddings, torch.stack([row.class_ids for row in rows]), text)

    def losses(self, embeddings: Tensor, class_ids: Tensor, text: TextRows) -> Losses:
        """Returns the weighted losses of (B, N, D) embeddings of masks with (B, N) classes."""
        scale, void = self.regions.clip.logit_scale, self.proposer.void
        logits = text.for_regions().logits(embeddings.float(), scale, void=void)
        return self.criterion(logits, class_ids, embeddings, num_pairs=self.num_pairs)

    @torch.no_grad()
    def _frozen(self, images: list[Tensor], text: TextRows) -> tuple[Tensor, Tensor | None]:
        """Returns CLIP's maps, and the decoder's masks unless this is the warm-up."""
        clip = self.regions.clip
        output = self.proposer(images, text, every_layer=False) if self.num_pairs else None
        if output is not None and clip is self.proposer.backbone:
            features = output.clip_map
        else:
            size = self.proposer.padded_size([size_of(image) for image in images])
            features = clip(clip.normalize(images, size)).clip_map
        return features, None if output is None else output.predictions[-1].mask_logits.float()

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns the system's trained weights; of a warm-up, without the decoder."""
        state = self.system.trainable_state()
        if self.num_pairs:
            return state
        members = tuple(self.system.trained_members)
        return {n: value for n, value in state.items() if n == VOID or n.startswith(members)}

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Loads what ``trainable_state`` returned; see ``load_exactly``."""
        load_exactly(self.trainable_state(), state, source=source)
