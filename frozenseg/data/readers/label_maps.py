"""Semantic annotation: one grey or palette image per picture, whose pixels are class ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozenseg.data.images import read_label_map
from frozenseg.errors import UserError

_UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class LabelMaps:
    """Where a data set's label maps lie, below the data root.

    Args:
        path: of one map, with ``{}`` for the picture's stem.
        ignore_label: stands for unlabelled pixels, here and in what is read.
        own_ids: values are the data set's own ids, and those up to the number given are known;
            None: values are our class ids.
    """

    path: str
    ignore_label: int = 255
    own_ids: int | None = None


class LabelMapReader:
    """Reads label maps as class ids.

    Args:
        class_ids: contiguous class by the data set's own id.
    """

    def __init__(self, files: LabelMaps, *, root: Path, class_ids: Mapping[int, int]) -> None:
        self.root, self.path, self.ignore_label = root, files.path, files.ignore_label
        self.num_classes = len(class_ids)
        self._lookup = np.full(1 << 16, _UNKNOWN, dtype=np.int64)
        if files.own_ids is None:
            self._lookup[: self.num_classes] = np.arange(self.num_classes)
            self._lookup[self.ignore_label] = self.ignore_label
        else:
            self._lookup[: files.own_ids + 1] = self.ignore_label
            self._lookup[list(class_ids)] = list(class_ids.values())

    def map_file(self, stem: str) -> Path:
        return self.root / self.path.format(stem)

    def read(self, stem: str) -> Tensor:
        """(H, W) int64 class ids and ignore label.

        Raises:
            UserError: the map is missing, damaged, a colour image, or has a label of no class.
        """
        path = self.map_file(stem)
        values = read_label_map(path)
        if values.ndim != 2:
            raise UserError(f"{path} is a colour image: a label map has one value per pixel")
        labels = self._lookup[values]
        if labels.min() == _UNKNOWN:
            wrong = int(values[labels == _UNKNOWN][0])
            raise UserError(
                f"{path} has label {wrong}, but there are {self.num_classes} classes and "
                f"{self.ignore_label} for unlabelled: is it of another data set?"
            )
        return torch.from_numpy(labels)
