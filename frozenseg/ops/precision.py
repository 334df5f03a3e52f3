"""Numeric precision under autocast."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, float64


def full_precision(tensor: Tensor) -> Tensor:
    """Returns the tensor as float32; float64 is kept."""
    return tensor if tensor.dtype == float64 else tensor.float()


def cast_once(tensor: Tensor) -> Callable[[], Tensor]:
    """Returns a function that returns the tensor for matrix products; all calls share one cast.

    Autocast itself casts for each product and keeps every copy for the backward pass. The gradients
    of all uses still add up in the tensor's own type.
    """
    device = tensor.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # meta knows no autocast
        return lambda: tensor
    copy = tensor.detach().to(torch.get_autocast_dtype(device))
    return lambda: _Substitute.apply(tensor, copy)


class _Substitute(torch.autograd.Function):
    """Returns a copy in another type in place of a tensor."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, copy: Tensor) -> Tensor:
        ctx.dtype = tensor.dtype
        return copy.view_as(copy)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad.to(ctx.dtype), None
