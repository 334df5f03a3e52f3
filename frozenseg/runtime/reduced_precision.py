"""Choosing a 16-bit type where the processor computes faster in it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "float16", "auto"]


def bfloat16_is_fast(device: torch.device) -> bool:
    """Returns True if matrix products in bfloat16 run on units of their own.

    These are AMX or AVX512-BF16 on CPUs, and tensor cores from compute capability 8.0 on GPUs.
    Elsewhere bfloat16 is emulated and slower than float32.
    """
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def autocast_to(precision: Precision, device: torch.device) -> AbstractContextManager:
    """Returns a context that computes in this precision, whatever surrounds it.

    Args:
        precision: a type, or "auto": bfloat16 where it is fast.
        device: where the computation runs.
    """
    if precision == "auto":
        precision = "bfloat16" if bfloat16_is_fast(device) else "float32"
    if device.type == "meta":  # which autocast does not know
        return nullcontext()
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "float32")
