"""The common base of the two towers: frozen, unless a training unfreezes a part."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


class FrozenTower(nn.Module):
    """A model without gradients, always in eval mode, with its own normalisation.

    ``name`` identifies it in messages and checkpoints; its builder sets it. ``stored`` is True if
    it is not the published tower, because a training changes it or its weights came from a file of
    trained weights: it is saved with them then.

    Args:
        model: an open_clip or segment_anything model.
        pixel_mean: of RGB values in 0..255.
        pixel_std: of RGB values in 0..255.
    """

    model: Any  # an open_clip or segment_anything model
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, model: nn.Module, *, pixel_mean: tuple[float, ...], pixel_std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.name, self.stored = "", False
        self.register_buffer(
            "pixel_mean", torch.tensor(pixel_mean)[:, None, None], persistent=False
        )
        self.register_buffer("pixel_std", torch.tensor(pixel_std)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> "FrozenTower":
        """Keeps the tower in eval mode, also when the model around it trains."""
        return super().train(False)

    def normalize(self, images: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Returns (3, H, W) images in 0..255 as one normalised batch, zero-padded to ``size``."""
        batch = self.pixel_mean.new_zeros((len(images), 3, *size))
        for row, image in zip(batch, images, strict=True):
            image = image.to(batch.device, torch.float32)
            row[:, : image.shape[1], : image.shape[2]] = (image - self.pixel_mean) / self.pixel_std
        return batch

    def load(self, state: dict[str, Tensor]) -> None:
        """Loads the tower of a file of trained weights, of the same architecture."""
        self.model.load_state_dict(state)
        self.stored = True
        self.__dict__.pop("_fingerprint", None)

    @property
    def fingerprint(self) -> str:
        """A hash of the weights, by which caches and checkpoints identify their tower."""
        if any(parameter.requires_grad for parameter in self.model.parameters()):
            return fingerprint_of(self.model.state_dict())  # a training changes them
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint_of(self.model.state_dict())


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """Returns the fingerprint of a tower's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data
            if tensor.dim()
            else repr(tensor.item()).encode()
        )
    return digest.hexdigest()[:16]
