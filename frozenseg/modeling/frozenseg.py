"""The method: images and a vocabulary in, masks and class logits out (Fig. 2)."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.io.weight_files import describe_differences
from frozenseg.modeling.pixel_decoder import PixelDecoder
from frozenseg.modeling.transformer_decoder import TransformerDecoder
from frozenseg.ops.maps import size_of
from frozenseg.structures import Prediction
from frozenseg.towers.clip import ClipTower
from frozenseg.towers.sam import SamTower
from frozenseg.vocabulary.text_classifier import TextClassifier


class Output(NamedTuple):
    """What one forward pass knows of a batch."""

    predictions: list[Prediction]  # the learned queries' first, the last layer's last
    dense: Tensor  # (B, C, H / 32, W / 32) of the CLIP tower, for the out-of-vocabulary classifier
    image_sizes: list[tuple[int, int]]  # before padding
    padded_size: tuple[int, int]


class FrozenSeg(nn.Module):
    """Two frozen towers and a trained decoder between them; without ``sam`` this is FC-CLIP."""

    def __init__(
        self,
        *,
        clip: ClipTower,
        sam: SamTower | None,
        pixel_decoder: PixelDecoder,
        transformer_decoder: TransformerDecoder,
        size_divisibility: int = 32,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.sam = sam
        self.pixel_decoder = pixel_decoder
        self.transformer_decoder = transformer_decoder
        self.void_embedding = nn.Embedding(1, clip.embed_dim)  # the last row of every vocabulary
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.size_divisibility = size_divisibility

    def forward(
        self, images: list[Tensor], classifier: TextClassifier, *, every_layer: bool | None = None
    ) -> Output:
        """Masks and class logits of (3, H, W) RGB images in 0..255, of any sizes.

        ``every_layer`` asks for the predictions of all layers (deep supervision); by default while
        training.
        """
        image_sizes = [size_of(image) for image in images]
        padded_size = self.padded_size(image_sizes)
        clip = self.clip(self.clip.normalize(images, padded_size))
        sam = None if self.sam is None else self.sam(self.sam.normalize(images, padded_size))

        def classify(embeddings: Tensor) -> Tensor:
            scale = self.logit_scale.exp().clamp(max=100)
            return classifier.logits(embeddings, self.void_embedding.weight[0], scale)

        predictions = self.transformer_decoder(
            self.pixel_decoder(clip.levels, sam),
            sam,
            classify,
            every_layer=self.training if every_layer is None else every_layer,
        )
        return Output(predictions, clip.dense, image_sizes, padded_size)

    def classify_regions(
        self, dense: Tensor, mask_logits: Tensor, classifier: TextClassifier
    ) -> Tensor:
        """CLIP's own (out-of-vocabulary) logits of (B, Q, H, W) masks: (B, Q, K + 1)."""
        embeddings = self.clip.embed_regions(dense, mask_logits)
        return classifier.logits(embeddings, self.void_embedding.weight[0], self.clip.logit_scale)

    def trainable_state(self) -> dict[str, Tensor]:
        """The trained weights alone, shared ones once; the towers are named, not stored."""
        return {
            name: value.detach() for name, value in self.named_parameters() if not _in_tower(name)
        }

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Takes over trained weights read from ``source``.

        The SAM branch is laid out as in there: published weights have theirs laid out for three
            levels.

        Raises:
            UserError: weights are missing, unknown or of another shape; each is named.
        """
        self._lay_out_sam_branch(state)
        own = self.trainable_state()
        differences = describe_differences(own, state)
        if differences:
            raise UserError(
                f"{source} holds weights of another architecture: {differences}. "
                "Choose the configuration that it was trained with"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])

    def _lay_out_sam_branch(self, state: Mapping[str, Tensor]) -> None:
        branch = self.pixel_decoder.sam_branch
        embedding = state.get("pixel_decoder.sam_branch.encoder.level_embedding")
        if branch is None or embedding is None:
            return
        if len(embedding) != branch.encoder.num_levels:
            branch.encoder.lay_out_for(len(embedding))

    def padded_size(self, sizes: list[tuple[int, int]]) -> tuple[int, int]:
        """The size that images of these sizes are padded to in one batch."""
        height, width = (max(side) for side in zip(*sizes, strict=True))
        step = self.size_divisibility
        return -(-height // step) * step, -(-width // step) * step


def _in_tower(name: str) -> bool:
    return name.startswith(("clip.", "sam."))
