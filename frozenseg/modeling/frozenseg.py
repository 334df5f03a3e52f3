"""The method (Fig. 2): from images and a vocabulary to masks and class logits."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from frozenseg.io.weight_files import load_exactly
from frozenseg.modeling.pixel_decoder import PixelDecoder
from frozenseg.modeling.transformer_decoder import TransformerDecoder
from frozenseg.ops.maps import Size, padded_size, size_of
from frozenseg.pipeline.protocols import TextRows
from frozenseg.runtime.reduced_precision import Precision, autocast_to
from frozenseg.structures import ClipMap, Frame, InputImage, Prediction, Proposals
from frozenseg.towers.roles import Backbone, ClipFeatures
from frozenseg.towers.sam import SamTower

Features = TypeVar("Features", Tensor, ClipFeatures)


class Output(NamedTuple):
    """The result of one forward pass over a batch."""

    predictions: list[Prediction]  # of the learned queries first, of the last layer last
    clip_map: Tensor  # (B, C, h, w) at the backbone's coarsest stride
    image_sizes: list[Size]  # before padding
    padded_size: Size


class FrozenSeg(nn.Module):
    """The proposer of FrozenSeg and FC-CLIP: a trained decoder on frozen CLIP and SAM encoders.

    Args:
        backbone: frozen feature extractor that the decoder reads.
        sam: frozen SAM encoder for the injectors; None is FC-CLIP.
        pixel_decoder, transformer_decoder: the trained parts.
        embed_dim: width of the text space that queries are classified in.
        size_divisibility: images are padded to a multiple of this, pixels.
        precision: of both frozen encoders at inference; the decoder computes in float32.
    """

    tasks = frozenset({"semantic", "panoptic", "instance"})

    def __init__(
        self,
        *,
        backbone: Backbone,
        sam: SamTower | None,
        pixel_decoder: PixelDecoder,
        transformer_decoder: TransformerDecoder,
        embed_dim: int,
        size_divisibility: int = 32,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.sam = sam
        self.pixel_decoder = pixel_decoder
        self.transformer_decoder = transformer_decoder
        self.void_embedding = nn.Embedding(1, embed_dim)  # the last row of every vocabulary
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.size_divisibility = size_divisibility
        self.precision: Precision = precision

    def forward(
        self, images: list[Tensor], text: TextRows, *, every_layer: bool | None = None
    ) -> Output:
        """Predicts masks and class logits of (3, H, W) RGB images in 0..255, of any sizes.

        Args:
            images: padded to one size in the batch.
            text: the vocabulary.
            every_layer: return the predictions of all layers (deep supervision); by default while
                training.
        """
        image_sizes = [size_of(image) for image in images]
        padded = self.padded_size(image_sizes)
        predictions, clip_map = self.predict(
            self.backbone.normalize(images, padded),
            None if self.sam is None else self.sam.normalize(images, padded),
            text,
            every_layer=self.training if every_layer is None else every_layer,
        )
        return Output(predictions, clip_map, image_sizes, padded)

    def predict(
        self, clip_images: Tensor, sam_images: Tensor | None, text: TextRows, *, every_layer: bool
    ) -> tuple[list[Prediction], Tensor]:
        """Returns the predictions of a padded batch, and its (B, C, h, w) CLIP map.

        Args:
            clip_images: (B, 3, H, W), normalised for CLIP.
            sam_images: (B, 3, H, W), normalised for SAM; None without SAM.
            text: the vocabulary.
            every_layer: return the predictions of all layers, the last layer's last.
        """
        clip = self._encode(self.backbone, clip_images)
        return self.decode(clip, sam_images, text, every_layer=every_layer), clip.clip_map

    def decode(
        self, clip: ClipFeatures, sam_images: Tensor | None, text: TextRows, *, every_layer: bool
    ) -> list[Prediction]:
        """Like ``predict``, from the features of the backbone."""
        sam = None
        if self.sam is not None and sam_images is not None:
            sam = self._encode(self.sam, sam_images)
        text = text.for_image(clip.clip_map)

        def classify(embeddings: Tensor) -> Tensor:
            scale = self.logit_scale.exp().clamp(max=100)
            return text.logits(embeddings, scale, void=self.void)

        return self.transformer_decoder(
            self.pixel_decoder(clip.levels, sam),
            sam,
            classify,
            every_layer=every_layer,
        )

    def _encode(self, tower: Callable[[Tensor], Features], images: Tensor) -> Features:
        """Returns what a tower sees; in training, in the precision around it."""
        if self.training or self.precision == "float32":
            return tower(images)
        with autocast_to(self.precision, images.device):
            found = tower(images)
        return found.float()

    def propose(self, images: Sequence[InputImage], text: TextRows) -> list[Proposals]:
        """Returns the last layer's masks and class logits for each image."""
        output = self([image.pixels for image in images], text, every_layer=False)
        class_logits, mask_logits = output.predictions[-1]
        found = []
        for row, size in enumerate(output.image_sizes):
            frame = Frame(output.padded_size, size)
            clip_map = ClipMap(output.clip_map[row : row + 1], frame, self.backbone)
            found.append(Proposals(mask_logits[row].float(), frame, class_logits[row], clip_map))
        return found

    @property
    def void(self) -> Tensor:
        """(D,) embedding of the last column of class logits."""
        return self.void_embedding.weight[0]

    def padded_size(self, sizes: Sequence[Size]) -> Size:
        """Returns the size that images of these sizes are padded to in one batch."""
        return padded_size(sizes, self.size_divisibility)

    def trainable_state(self) -> dict[str, Tensor]:
        """The trained weights alone, shared ones once; the towers are named, not stored."""
        return {
            name: value.detach() for name, value in self.named_parameters() if not _in_tower(name)
        }

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Loads trained weights read from ``source``; see ``load_exactly``."""
        load_exactly(self.trainable_state(), state, source=source)


def _in_tower(name: str) -> bool:
    return name.startswith(("backbone.", "sam."))
