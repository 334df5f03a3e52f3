"""Learning rate schedules as pure functions of the iteration, so they need no saved state."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]
"""Maps an iteration, counted from 0, to the factor of the base learning rate."""


def multi_step(*, steps: Sequence[int], gamma: float = 0.1) -> Schedule:
    """Starts at 1 and multiplies by ``gamma`` at each of ``steps``."""
    ordered = sorted(steps)
    return lambda iteration: gamma ** bisect_right(ordered, iteration)


def cosine(*, num_iterations: int) -> Schedule:
    """Falls from 1 to 0 along half a cosine wave."""
    return lambda iteration: 0.5 * (1.0 + math.cos(math.pi * iteration / num_iterations))


def cosine_after_warmup(*, num_iterations: int, warmup: int) -> Schedule:
    """Rises linearly to 1 over ``warmup`` iterations, then falls to 0 along half a cosine wave.

    The first iteration already has the factor ``1 / warmup``, as in CLIP's public training code.
    """

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return (iteration + 1) / warmup
        share = (iteration - warmup) / max(1, num_iterations - warmup)
        return 0.5 * (1.0 + math.cos(math.pi * share))

    return factor


def polynomial(*, num_iterations: int, power: float = 0.9) -> Schedule:
    """Falls from 1 to 0 as a power of the remaining share of iterations ("poly")."""
    return lambda iteration: (1.0 - iteration / num_iterations) ** power


def warmed_up(schedule: Schedule, *, num_iterations: int, start_factor: float) -> Schedule:
    """Rises linearly from ``start_factor`` times the first value to that at ``num_iterations``."""

    def factor(iteration: int) -> float:
        if iteration >= num_iterations:
            return schedule(iteration)
        start, end = start_factor * schedule(0), schedule(num_iterations)
        return start + (end - start) * iteration / num_iterations

    return factor
