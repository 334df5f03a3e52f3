"""All entry points, by name."""

from tools.fuzz.case import Entry
from tools.fuzz.entries import (
    annotations,
    caches,
    commands,
    configuration,
    disks,
    images,
    preparation,
    runs,
    self_test,
    videos,
    vocabulary,
    weights,
)

MODULES = (
    images, annotations, preparation, configuration, vocabulary, weights, caches, runs, disks,
    commands, self_test, videos,
)  # fmt: skip
ENTRIES: dict[str, Entry] = {entry.name: entry for module in MODULES for entry in module.ENTRIES}
