"""The training of CLIP's image trunk with the decoder: MAFT+ and OVR (OVRCOAT).

https://arxiv.org/abs/2408.00744 and https://arxiv.org/abs/2603.21386.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from frozenseg.checkpoint.weights import stored_towers
from frozenseg.io.weight_files import load_exactly
from frozenseg.losses import Criterion
from frozenseg.losses.region_losses import RegionLoss, RegionPredictions
from frozenseg.losses.representation import representation_loss
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.protocols import TextRows
from frozenseg.structures import Target
from frozenseg.towers.clip import ConvNeXtClip
from frozenseg.towers.roles import ClipFeatures
from frozenseg.training.step import Losses


class TrunkTraining(nn.Module):
    """A system of which the decoder, trained members and CLIP's image trunk learn.

    CLIP's text encoder, head and projection stay frozen.

    Args:
        system: proposer FrozenSeg or FC-CLIP, whose CLIP also classifies its masks.
        criterion: the losses of the decoder.
        region_loss: of CLIP's classes of the decoder's masks.
        decoder_reaches_trunk: the decoder's losses train the trunk, too (OVR).
        trains_scale: CLIP's factor on cosines learns, too (OVR).
        stochastic_depth: drop the trunk's blocks at the rates that CLIP was built with (OVR).
        teacher: the untouched CLIP, near whose map the trunk stays; None: no such loss.
        teacher_weight: of that loss.
    """

    def __init__(
        self,
        system: SegmentationModel,
        *,
        criterion: Criterion,
        region_loss: RegionLoss,
        decoder_reaches_trunk: bool = False,
        trains_scale: bool = False,
        stochastic_depth: bool = False,
        teacher: ConvNeXtClip | None = None,
        teacher_weight: float = 0.1,
    ) -> None:
        super().__init__()
        assert isinstance(system.proposer, FrozenSeg), "the decoder"
        assert isinstance(system.proposer.backbone, ConvNeXtClip), "the CLIP to train"
        self.system, self.proposer, self.clip = system, system.proposer, system.proposer.backbone
        self.clip.unfreeze_trunk(with_scale=trains_scale)
        self.criterion, self.region_loss = criterion, region_loss
        self.decoder_reaches_trunk = decoder_reaches_trunk
        self.stochastic_depth = stochastic_depth
        self.teacher, self.teacher_weight = teacher, teacher_weight

    def train(self, mode: bool = True) -> "TrunkTraining":
        """Keeps CLIP in eval mode, except the trunk's stochastic depth if it is on."""
        super().train(mode)
        self.clip.trunk.train(mode and self.stochastic_depth)
        return self

    def forward(
        self,
        images: list[Tensor],
        targets: Sequence[Target],
        text: TextRows,
        *,
        num_targets: float | None = None,
    ) -> Losses:
        """Returns the weighted losses; see ``SystemTraining``."""
        proposer, size = self.proposer, self.proposer.padded_size([size_of(i) for i in images])
        pixels = self.clip.normalize(images, size)
        features = self.clip(pixels)
        predictions = proposer.decode(
            features if self.decoder_reaches_trunk else detached(features),
            None if proposer.sam is None else proposer.sam.normalize(images, size),
            text,
            every_layer=True,
        )
        found = self.criterion.matched(predictions, targets, num_targets=num_targets)
        masks = predictions[-1].mask_logits.detach()
        logits = self.region_logits(features.clip_map, masks, text)
        regions = RegionPredictions(logits, masks, size)
        losses = found.losses | self.region_loss(regions, targets, found.matches)
        if self.teacher is not None:
            distance = representation_loss(features.clip_map, self.teacher(pixels).clip_map)
            losses["loss_rc"] = self.teacher_weight * distance
        return losses

    def region_logits(self, clip_map: Tensor, mask_logits: Tensor, text: TextRows) -> Tensor:
        """Returns (B, Q, K) logits of the regions under masks, as the system's at test."""
        embeddings = self.clip.embed_regions(clip_map, mask_logits).float()
        rows = [text.for_regions().for_image(each) for each in clip_map.split(1)]
        scale = self.clip.logit_scale
        return torch.stack(
            [own.logits(each, scale) for own, each in zip(rows, embeddings, strict=True)]
        )

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns the system's trained weights and the whole CLIP, under the names of files."""
        return self.system.trainable_state() | stored_towers(self.proposer)

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Loads what ``trainable_state`` returned; see ``load_exactly``."""
        load_exactly(self.trainable_state(), state, source=source)


def detached(features: ClipFeatures) -> ClipFeatures:
    """Returns features that carry no gradient."""
    levels = tuple(level.detach() for level in features.levels)
    return ClipFeatures(levels, features.clip_map.detach())
