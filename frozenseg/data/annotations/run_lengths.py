"""COCO's run-length encoding in NumPy: counts are checked before a mask is made.

Runs go down the columns and alternate between 0 and 1, beginning with 0. A compressed string holds
five bits per character; from the fourth count on, differences from the count two before.
"""

from typing import Any

import numpy as np

from frozenseg.data.annotations.faults import BadEntry
from frozenseg.io.text import quoted

_MAX_CHARACTERS = 7  # per count: 35 bits hold every length of a mask
_OFFSET, _MORE, _SIGN = 48, 32, 16


def decode_run_lengths(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """The (H, W) bool mask of either kind of run-length encoding.

    Args:
        segmentation: an object with ``size`` (height, width) and ``counts``, a list of numbers or
            the compressed string.
        size: (height, width) of the image.

    Raises:
        BadEntry: it is no such object, or does not fill exactly an image of this size.
    """
    counts = checked_counts(segmentation, size)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(size[1], size[0]).T


def checked_counts(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """The run lengths as int64.

    Raises:
        BadEntry: as above.
    """
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise BadEntry(f"must have polygons, or 'size' and 'counts', got {quoted(segmentation)}")
    stated, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(stated, (list, tuple)) or list(stated) != list(size):
        raise BadEntry(
            f"has run lengths of size {quoted(stated)} in an image of {size[0]} x {size[1]} "
            "(height x width)"
        )
    runs = _parsed(counts) if isinstance(counts, (str, bytes)) else _listed(counts)
    num_pixels = size[0] * size[1]
    if runs.min(initial=0) < 0 or runs.max(initial=0) > num_pixels:
        raise BadEntry(f"has a run length outside 0..{num_pixels}")
    if int(runs.sum()) != num_pixels:
        raise BadEntry(f"has run lengths of {int(runs.sum())} pixels in an image of {num_pixels}")
    return runs


def _listed(counts: object) -> np.ndarray:
    if not isinstance(counts, list) or not all(type(each) is int for each in counts):
        raise BadEntry(f"must have integers or a string as 'counts', got {quoted(counts)}")
    try:
        return np.array(counts, dtype=np.int64)
    except OverflowError as error:
        raise BadEntry("has a run length of more than 64 bits") from error


def _parsed(text: str | bytes) -> np.ndarray:
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise BadEntry(f"has the compressed counts {quoted(text)}, which are not ASCII") from error
    groups = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - _OFFSET
    if len(groups) == 0:
        return groups
    if groups.min() < 0 or groups.max() > 63 or groups[-1] & _MORE:
        raise BadEntry(f"has damaged compressed counts {quoted(text)}")
    last = np.flatnonzero((groups & _MORE) == 0)  # of each count
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _MAX_CHARACTERS:
        raise BadEntry("has a compressed count of more than 35 bits")
    shifts = 5 * (np.arange(len(groups)) - np.repeat(first, lengths))
    numbers = np.add.reduceat((groups & 31) << shifts, first)
    negative = (groups[last] & _SIGN) != 0
    numbers = np.where(negative, numbers - (np.int64(1) << (5 * lengths)), numbers)
    return _summed(numbers)


def _summed(numbers: np.ndarray) -> np.ndarray:
    """Undoes the differences: count k, from the fourth on, adds to count k - 2."""
    counts = numbers.copy()
    counts[1::2] = np.cumsum(numbers[1::2])  # the second count begins this chain
    if len(numbers) > 2:
        counts[2::2] = np.cumsum(numbers[2::2])  # the third count begins the other
    return counts
