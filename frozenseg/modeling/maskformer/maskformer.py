"""The proposer MaskFormer: masks and class logits from a backbone of its own (OVSeg)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from frozenseg.errors import UserError
from frozenseg.io.weight_files import describe_differences
from frozenseg.modeling.maskformer.pixel_decoder import FeaturePyramid
from frozenseg.modeling.maskformer.transformer_decoder import TransformerDecoder
from frozenseg.ops.maps import Size, padded_size, size_of
from frozenseg.pipeline.protocols import TextRows
from frozenseg.structures import Frame, InputImage, Prediction, Proposals

LOGIT_SCALE = 100.0  # on the cosines, in training and test; OVSeg does not learn it
PIXEL_MEAN = (123.675, 116.28, 103.53)  # of ImageNet, RGB in 0..255
PIXEL_STD = (58.395, 57.12, 57.375)


class FeatureMaps(Protocol):
    """An ``nn.Module`` with four maps per image."""

    channels: tuple[int, ...]  # of res2 to res5

    def __call__(self, images: Tensor, /) -> tuple[Tensor, ...]:
        """Returns (B, C, h, w) maps at strides 4, 8, 16, 32."""
        ...


class Output(NamedTuple):
    """The predictions of one forward pass for a batch."""

    predictions: list[Prediction]  # one per layer, the last layer's last
    padded_size: Size


class MaskFormer(nn.Module):
    """Classifies learned queries by cosines with text rows and a learned no-object row.

    Args:
        backbone: ``DeepLabResNet`` or ``SwinTransformer``.
        pixel_decoder: computes the mask features.
        transformer_decoder: computes masks and class embeddings.
        embed_dim: width of the text rows.
        pixel_mean, pixel_std: normalisation of RGB values in 0..255.
        size_divisibility: images are padded to multiples of this, pixels.
    """

    tasks = frozenset({"semantic"})
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: FeatureMaps,
        pixel_decoder: FeaturePyramid,
        transformer_decoder: TransformerDecoder,
        embed_dim: int,
        pixel_mean: Sequence[float] = PIXEL_MEAN,
        pixel_std: Sequence[float] = PIXEL_STD,
        size_divisibility: int = 32,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.transformer_decoder = transformer_decoder
        # a plain parameter: unlike an embedding module it decays, as in official training
        self.void_embedding = nn.Parameter(torch.randn(1, embed_dim) * embed_dim**-0.5)
        self.size_divisibility = size_divisibility
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            column = torch.tensor(tuple(values))[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def forward(
        self, images: Sequence[Tensor], text: TextRows, *, every_layer: bool | None = None
    ) -> Output:
        """Predicts masks and class logits of (3, H, W) RGB images in 0..255, of any sizes.

        Args:
            images: padded with zeros, after normalisation, to one size.
            text: the vocabulary.
            every_layer: return the predictions of all layers (deep supervision); by default in
                training mode.
        """
        size = self.padded_size([size_of(image) for image in images])
        rows = text.for_image(None)

        def classify(embeddings: Tensor) -> Tensor:
            return rows.logits(embeddings, LOGIT_SCALE, void=self.void)

        levels = self.backbone(self._normalise(images, size))
        predictions = self.transformer_decoder(
            levels[-1],
            self.pixel_decoder(levels),
            classify,
            every_layer=self.training if every_layer is None else every_layer,
        )
        return Output(predictions, size)

    @torch.no_grad()
    def propose(self, images: Sequence[InputImage], text: TextRows) -> list[Proposals]:
        """Returns the masks and class logits of each image, at stride 4."""
        output = self([image.pixels for image in images], text, every_layer=False)
        class_logits, mask_logits = output.predictions[-1]
        return [
            Proposals(masks.float(), Frame(output.padded_size, size_of(image.pixels)), logits)
            for image, masks, logits in zip(images, mask_logits, class_logits, strict=True)
        ]

    @property
    def void(self) -> Tensor:
        """(D,) embedding of the last column of class logits."""
        return self.void_embedding[0]

    def padded_size(self, sizes: Sequence[Size]) -> Size:
        """Returns the size that images of these sizes are padded to in one batch."""
        return padded_size(sizes, self.size_divisibility)

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns all weights and the statistics of batch norms: no part is a shared tower."""
        return dict(self.state_dict())

    def load_trainable_state(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Loads weights; ``source`` is the name used in error messages.

        Raises:
            UserError: weights are missing, unknown or of another shape; the first ones are named.
        """
        differences = describe_differences(self.trainable_state(), state)
        if differences:
            raise UserError(
                f"{source} does not fit this MaskFormer: {differences}; "
                "choose the configuration that it was trained with"
            )
        self.load_state_dict(state)

    def _normalise(self, images: Sequence[Tensor], size: Size) -> Tensor:
        batch = self.pixel_mean.new_zeros((len(images), 3, *size))
        for row, image in zip(batch, images, strict=True):
            height, width = size_of(image)
            image = image.to(batch.device, batch.dtype)
            row[:, :height, :width] = (image - self.pixel_mean) / self.pixel_std
        return batch
