"""One recorded array against ours: how far apart, and whether that is near enough."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Verdict = Literal["pass", "fail", "not compared", "unknown"]


class Row(NamedTuple):
    """The outcome for one recorded array."""

    name: str
    verdict: Verdict
    largest: float | None = None  # absolute difference
    relative: float | None = None  # the same over the largest recorded value
    tolerance: float | None = None
    note: str = ""


def compare(
    name: str, ours: Tensor, recorded: np.ndarray, *, tolerance: float, relative: float = 0.0
) -> Row:
    """Largest difference of two arrays; ``ours`` may have axes of length 1 more.

    Where the official code recorded NaN (attention over nothing), nothing is asked.

    Args:
        tolerance: absolute; widened to ``relative`` times the largest recorded value.
    """
    wanted = torch.from_numpy(np.asarray(recorded, dtype=np.float64))
    if ours.numel() != wanted.numel():
        note = f"shape {tuple(ours.shape)}, recorded {tuple(wanted.shape)}"
        return Row(name, "fail", tolerance=tolerance, note=note)
    defined = ~wanted.isnan()
    wanted, ours = wanted[defined], ours.detach().double().reshape(defined.shape)[defined]
    if not len(wanted):
        return Row(name, "not compared", note="no defined value was recorded")
    largest = (ours - wanted).abs().max().item()
    magnitude = wanted.abs().max().item()
    allowed = max(tolerance, relative * magnitude)
    return Row(
        name,
        "pass" if largest <= allowed else "fail",  # a NaN of ours fails
        largest,
        largest / magnitude if magnitude else largest,
        allowed,
        "" if defined.all() else f"{(~defined).sum()} undefined values left out",
    )


def compare_numbers(
    name: str, ours: Mapping[str, float], recorded: Mapping[str, float], *, tolerance: float
) -> Row:
    """Like ``compare``, for named numbers; ``tolerance`` is relative."""
    if ours.keys() != recorded.keys():
        missing = sorted(ours.keys() ^ recorded.keys())
        return Row(name, "fail", tolerance=tolerance, note=f"only one side has {missing[0]}")
    absolute = {key: abs(ours[key] - recorded[key]) for key in recorded}
    relative = {key: absolute[key] / max(abs(recorded[key]), 1e-12) for key in recorded}
    worst = max(relative, key=relative.__getitem__)
    return Row(
        name,
        "pass" if relative[worst] <= tolerance else "fail",
        max(absolute.values()),
        relative[worst],
        tolerance,
        f"relative, worst: {worst}" if relative[worst] else "",
    )


def split_stride(name: str) -> tuple[str, int]:
    """``mask_features_s2`` is every second row and column of ``mask_features``."""
    match = re.fullmatch(r"(.+)_s(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 1)


def strided(tensor: Tensor, stride: int) -> Tensor:
    return tensor[..., ::stride, ::stride] if stride > 1 else tensor
