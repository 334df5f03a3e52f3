"""All entry points, by name."""

from tools.fuzz.case import Entry
from tools.fuzz.entries import (
    annotations,
    caches,
    commands,
    configuration,
    disks,
    images,
    inputs,
    model_folders,
    own_data,
    preparation,
    runs,
    self_test,
    shards,
    trained_towers,
    videos,
    vocabulary,
    web,
    weights,
)

MODULES = (
    images, annotations, preparation, configuration, vocabulary, weights, caches, runs, disks,
    commands, self_test, videos, model_folders, web, own_data,
    trained_towers, shards, inputs,
)  # fmt: skip
ENTRIES: dict[str, Entry] = {entry.name: entry for module in MODULES for entry in module.ENTRIES}
