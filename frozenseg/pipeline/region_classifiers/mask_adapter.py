"""Region classifier "mask adapter": learned maps pool CLIP's feature map (Mask-Adapter, sec. 3.2).

https://arxiv.org/abs/2412.04533.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from frozenseg.modeling.mask_adapter import MaskAdapter, pool_with_maps
from frozenseg.pipeline.clip_maps import aligned_masks, clip_map_of
from frozenseg.structures import InputImage, Proposals, Regions
from frozenseg.towers.roles import FeatureEmbedder


class AdaptedMaps(nn.Module):
    """Embeds regions by the mean of several weighted means of CLIP's map.

    A mask without a pixel has an embedding, too: that of the maps that the network predicts for it.

    Args:
        clip: the tower whose map is pooled.
        adapter: predicts the maps.
        threshold: a cell is in a mask if its probability is above this.
        embed_map: (1, C, h, w) map to the (1, D, h, w) embeddings that the network reads; None:
            those of the cells. Weights for MAFT+ read its image map.
        chunk_size: masks that the network sees at once, which bounds memory: an image of 800 x 1333
            needs 25 MB for each.
    """

    def __init__(
        self,
        *,
        clip: FeatureEmbedder,
        adapter: MaskAdapter,
        threshold: float = 0.5,
        embed_map: Callable[[Tensor], Tensor] | None = None,
        chunk_size: int = 10,
    ) -> None:
        super().__init__()
        self.clip, self.adapter = clip, adapter
        self.embedding_map = self._embed_cells if embed_map is None else embed_map
        self.threshold, self.chunk_size = threshold, chunk_size

    @property
    def trained_parts(self) -> Mapping[str, nn.Module]:
        return {"adapter": self.adapter}

    def forward(self, image: InputImage, proposals: Proposals) -> Regions:
        """Returns one embedding per mask; see ``frozenseg.pipeline.RegionClassifier``."""
        clip_map = clip_map_of(self.clip, image, proposals)
        masks = aligned_masks(proposals, clip_map).sigmoid() > self.threshold
        judged = masks.flatten(1).any(dim=1)
        return Regions(self.embed(clip_map.features, masks), judged, self.clip.logit_scale)

    def embed(self, features: Tensor, masks: Tensor) -> Tensor:
        """Returns (Q, D) embeddings, not normalised; gradient flows to the adapter.

        Args:
            features: (1, C, h, w) map of one image.
            masks: (Q, H, W), bool or in [0, 1], over the same frame, at any resolution.
        """
        embedding_map = self.embedding_map(features)
        chunks = (chunk for chunk in masks.split(self.chunk_size) if len(chunk))
        found = [self._embed(features, embedding_map, chunk.to(features.dtype)) for chunk in chunks]
        return torch.cat(found) if found else features.new_zeros(0, embedding_map.shape[1])

    def _embed_cells(self, features: Tensor) -> Tensor:
        """Returns the (1, D, h, w) CLIP embeddings of all cells."""
        return self.clip.embed_features(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _embed(self, features: Tensor, embedding_map: Tensor, masks: Tensor) -> Tensor:
        pooled = pool_with_maps(features, self.adapter(embedding_map, masks))
        return self.clip.embed_features(pooled).mean(dim=1)
