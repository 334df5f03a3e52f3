"""Speed of an evaluation: images per second, and how long each stage was busy."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

MODEL, IMAGES, SCORES = "model", "waiting for images", "waiting for metrics"
READING, RESIZING, METRICS = "reading", "resizing", "metrics"
IN_SEQUENCE = (MODEL, IMAGES, SCORES)  # stages of the main thread: they add up to the whole
ALONGSIDE = (READING, RESIZING, METRICS)  # stages of workers and of the metrics' thread


class Speed(NamedTuple):
    """Wall-clock times of an evaluation, of this process."""

    num_images: int
    seconds: float
    stages: Mapping[str, float]  # busy seconds, summed over workers

    def __str__(self) -> str:
        rate = self.num_images / self.seconds if self.seconds else 0.0
        return (
            f"{self.num_images} images in {self.seconds:.1f} s, {rate:.2f} a second; "
            f"milliseconds per image: {self._listed(IN_SEQUENCE)}; "
            f"alongside: {self._listed(ALONGSIDE)}"
        )

    def _listed(self, stages: tuple[str, ...]) -> str:
        per_image = 1000 / max(self.num_images, 1)
        return ", ".join(f"{stage} {per_image * self.stages[stage]:.0f}" for stage in stages)


class Stopwatch:
    """Adds up the seconds of stages and counts images; each stage belongs to one thread."""

    def __init__(self) -> None:
        self.num_images = 0
        self._began = time.perf_counter()
        self._stages: dict[str, float] = dict.fromkeys((*IN_SEQUENCE, *ALONGSIDE), 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        self._stages[name] += seconds

    def read(self) -> Speed:
        """Returns the measurements since the start."""
        return Speed(self.num_images, time.perf_counter() - self._began, dict(self._stages))
