"""Sine positions for a feature map, shared by all who attend to one."""

import math

import torch
from torch import Tensor


def sine_positions(feature_map: Tensor) -> Tensor:
    """The position of each cell of a (B, C, h, w) map as a (1, C, h, w) map of its dtype.

    The first C / 2 channels tell the row, the others the column; cells count from 1 and are scaled
    to [0, 2 pi], so that maps of different sizes cover the same range (DETR's normalised variant).
    """
    channels, height, width = feature_map.shape[-3:]
    half = channels // 2
    device = feature_map.device
    frequencies = 10000 ** (-2 * (torch.arange(half, device=device) // 2).float() / half)
    rows = _wave(height, frequencies)[:, None, :].expand(height, width, half)
    columns = _wave(width, frequencies)[None, :, :].expand(height, width, half)
    return torch.cat([rows, columns], dim=-1).permute(2, 0, 1)[None].to(feature_map.dtype)


def _wave(length: int, frequencies: Tensor) -> Tensor:
    cells = torch.arange(1, length + 1, device=frequencies.device, dtype=torch.float32)
    angles = (cells / (length + 1e-6) * 2 * math.pi)[:, None] * frequencies
    return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=-1).flatten(1)
