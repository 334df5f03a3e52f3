"""Weights of any format for Detectron2's own tools."""

from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from detectron2.utils.file_io import PathHandler, PathManager

from frozenseg.checkpoint.weights import open_weights

PREFIX = "frozenseg:"  # without slashes: the checkpointer's URL parsing would change the path


class WeightsHandler(PathHandler):
    """Resolves ``frozenseg:PATH``: weights or a checkpoint folder of this project.

    Detectron2's checkpointer reads only files of ``torch.save``; it gets a temporary copy that
    exists as long as this process.
    """

    @cached_property
    def _folder(self) -> TemporaryDirectory:
        return TemporaryDirectory(prefix="frozenseg-")

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **_: Any) -> str:
        source = weights_path(path)
        weights = open_weights(source)
        state = OrderedDict(weights.tensors)
        state._metadata = weights.notes  # the attribute that PyTorch keeps notes in
        copy = Path(self._folder.name) / f"{hash(source):x}.pth"
        torch.save({"model": state}, copy)
        return str(copy)


def weights_path(name: str) -> str:
    """Returns the file or folder that ``MODEL.WEIGHTS`` names, for this project's readers."""
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX)
    return PathManager.get_local_path(name) if name else name


PathManager.register_handler(WeightsHandler())
