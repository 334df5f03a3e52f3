"""What the two towers have in common: they never train."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


class FrozenTower(nn.Module):
    """Parameters without gradient, eval mode always, one normalisation of its own.

    ``name`` is what messages and checkpoints call it; who builds it says so.

    Args:
        pixel_mean, pixel_std: of RGB values in 0..255.
    """

    model: Any  # an open_clip or segment_anything model
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, model: nn.Module, *, pixel_mean: tuple[float, ...], pixel_std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.name = ""
        self.register_buffer(
            "pixel_mean", torch.tensor(pixel_mean)[:, None, None], persistent=False
        )
        self.register_buffer("pixel_std", torch.tensor(pixel_std)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> "FrozenTower":
        """Stays in eval mode, whatever the model around it does."""
        return super().train(False)

    def normalize(self, images: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Images (3, H, W) in 0..255 as one normalised batch, padded with 0 to ``size``."""
        batch = self.pixel_mean.new_zeros((len(images), 3, *size))
        for row, image in zip(batch, images, strict=True):
            image = image.to(batch.device, torch.float32)
            row[:, : image.shape[1], : image.shape[2]] = (image - self.pixel_mean) / self.pixel_std
        return batch

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes other weights for the same architecture."""
        self.model.load_state_dict(state)
        self.__dict__.pop("_fingerprint", None)

    @property
    def fingerprint(self) -> str:
        """A hash of the weights, by which caches and checkpoints identify their tower."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint_of(self.model.state_dict())


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """The same for a tower's weights alone."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data
            if tensor.dim()
            else repr(tensor.item()).encode()
        )
    return digest.hexdigest()[:16]
