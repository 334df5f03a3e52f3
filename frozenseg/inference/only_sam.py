"""Only SAM (Table 4, row 1): SAM's masks, classified by CLIP; nothing is trained."""

import torch
from torch import Tensor, nn

from frozenseg.inference.mask_ensemble import masks_on_cells
from frozenseg.inference.semantic import class_maps
from frozenseg.ops.maps import resize_maps
from frozenseg.sam_masks.generator import MaskSource
from frozenseg.structures import Result
from frozenseg.towers.clip import ClipTower
from frozenseg.vocabulary.text_classifier import TextClassifier

Size = tuple[int, int]


class ClipAlone(nn.Module):
    """What is left of the model without its trained parts.

    Args:
        size_divisibility: images are padded to a multiple of it, as for the whole model.
    """

    def __init__(self, *, clip: ClipTower, size_divisibility: int = 32) -> None:
        super().__init__()
        self.clip = clip
        self.sam = None
        self.size_divisibility = size_divisibility

    def trainable_state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def padded_size(self, size: Size) -> Size:
        step = self.size_divisibility
        return -(-size[0] // step) * step, -(-size[1] // step) * step


class OnlySamPredictor:
    """Gives each pixel the class of the masks of SAM over it.

    Every mask that CLIP sees something of counts, with its own class probabilities; void has none.
    Where no mask is, the faintest one decides, for every pixel gets a class.
    """

    def __init__(self, *, model: ClipAlone, classifier: TextClassifier, source: MaskSource) -> None:
        self.model, self.classifier, self.source = model.eval(), classifier, source

    @torch.inference_mode()
    def __call__(
        self,
        images: list[Tensor],
        output_sizes: list[Size] | None = None,
        originals: list[Tensor] | None = None,
    ) -> list[Result]:
        """As of ``Predictor``; semantic results alone."""
        sizes = output_sizes or [(image.shape[-2], image.shape[-1]) for image in images]
        pictures = originals or images
        return [
            Result(semantic=self._class_maps(image, size, picture.round().to(torch.uint8)))
            for image, size, picture in zip(images, sizes, pictures, strict=True)
        ]

    def _class_maps(self, image: Tensor, size: Size, picture: Tensor) -> Tensor:
        clip = self.model.clip
        padded = self.model.padded_size((image.shape[-2], image.shape[-1]))
        dense = clip(clip.normalize([image], padded)).dense
        masks = self.source(picture).logits().to(dense)
        if not len(masks):
            return dense.new_zeros((self.classifier.num_classes, *size))
        cells = masks_on_cells(masks, (dense.shape[-2], dense.shape[-1]))
        visible = (cells > 0).flatten(1).any(dim=1)
        embeddings = clip.embed_regions(dense, cells[None, visible])
        void = embeddings.new_zeros(clip.embed_dim)  # its logit is taken out again
        logits = self.classifier.logits(embeddings, void, clip.logit_scale)[0]
        logits[:, -1] = -torch.inf
        return class_maps(logits.softmax(dim=-1), resize_maps(masks[visible], size).sigmoid())
