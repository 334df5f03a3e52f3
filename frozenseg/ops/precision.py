"""Numeric precision under autocast."""

from torch import Tensor, float64


def full_precision(tensor: Tensor) -> Tensor:
    """Returns the tensor as float32; float64 is kept."""
    return tensor if tensor.dtype == float64 else tensor.float()
