"""Overlap in pixels: between the segments of two id maps, or between bit-packed masks."""

import numpy as np
from torch import Tensor


def pair_areas(first: Tensor, second: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts the pixels of each pair of ids in two (H, W) maps of non-negative ids.

    Counting runs of equal pairs instead of pixels makes this fast.

    Returns:
        (N,) ids of the first map, (N,) ids of the second, (N,) pixels.
    """
    high, low = (ids.flatten().numpy(force=True) for ids in (first, second))
    changes = high[1:] != high[:-1]
    changes |= low[1:] != low[:-1]
    starts = np.append(0, np.flatnonzero(changes) + 1)
    lengths = np.diff(starts, append=len(high))
    pairs = (high[starts].astype(np.int64) << 32) | low[starts]
    order = np.argsort(pairs)
    pairs = pairs[order]
    firsts = np.append(0, np.flatnonzero(pairs[1:] != pairs[:-1]) + 1)
    found, areas = pairs[firsts], np.add.reduceat(lengths[order], firsts)
    return found >> 32, found & 0xFFFFFFFF, areas


def equal_runs(ids: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers the distinct ids of an (H, W) map; runs of equal ids are faster than pixels.

    Returns:
        (R,) distinct ids, ascending; (H * W,) number of each pixel's id; (R,) pixels.
    """
    flat = ids.flatten().numpy(force=True)
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    lengths = np.diff(starts, append=len(flat))
    values, numbers = np.unique(flat[starts], return_inverse=True)
    pixels = np.bincount(numbers, weights=lengths).astype(np.int64)
    return values, np.repeat(numbers, lengths), pixels


def pack_masks(masks: Tensor) -> np.ndarray:
    """Packs (N, H, W) bool masks to (N, words) uint64, one bit per pixel."""
    packed = np.packbits(masks.flatten(1).numpy(force=True), axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)


def count_pixels(packed: np.ndarray) -> np.ndarray:
    """Returns the (N,) int64 pixels of each packed mask."""
    return np.bitwise_count(packed).sum(axis=-1, dtype=np.int64)


def shared_pixels(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the (P, N) int64 pixels shared by each of P and each of N packed masks."""
    if len(first) < len(second):
        return shared_pixels(second, first).T
    columns = [count_pixels(first & mask) for mask in second]
    return np.stack(columns, axis=1) if columns else np.zeros((len(first), 0), dtype=np.int64)
