"""Semantic annotation: one grey or palette image per image, whose pixels are class ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozenseg.data.images import read_label_map
from frozenseg.errors import UserError
from frozenseg.io.paths import inside

_UNKNOWN = -1
_VALUES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class LabelMaps:
    """The location of a data set's label maps below the data root, and the meaning of values.

    Args:
        path: of one map, with ``{}`` for the image's stem.
        ignore_label: of unlabelled pixels in what is read.
        ignore_value: the same in the files; None: the ignore label.
        own_ids: values are the data set's own ids, and those up to the number given that belong to
            no class are unlabelled (-1: none is); None: values are class ids.
        one_bit: what the set pixels of a 1-bit map stand for.
    """

    path: str
    ignore_label: int = 255
    ignore_value: int | None = None
    own_ids: int | None = None
    one_bit: int = 255


class LabelMapReader:
    """Reads label maps as class ids.

    Args:
        files: where the maps are.
        root: the data root.
        class_ids: class by the data set's own id.
    """

    def __init__(self, files: LabelMaps, *, root: Path, class_ids: Mapping[int, int]) -> None:
        self.root, self.files, self.num_classes = root, files, len(class_ids)
        value = files.ignore_label if files.ignore_value is None else files.ignore_value
        self.ignore_value = value
        self._lookup = np.full(_VALUES, _UNKNOWN, dtype=np.int64)
        if files.own_ids is not None:
            self._lookup[: files.own_ids + 1] = files.ignore_label
        self._lookup[value] = files.ignore_label
        for own_id, class_id in class_ids.items():
            self._lookup[class_id if files.own_ids is None else own_id] = class_id

    def map_file(self, stem: str, *, links: bool = True) -> Path:
        """Returns the path of an image's map.

        Raises:
            UserError: the stem, or with ``links`` a link, leads out of the folder of maps.
        """
        return filled(self.root, self.files.path, stem, links=links)

    def read(self, stem: str) -> Tensor:
        """(H, W) int64 class ids and ignore label.

        Raises:
            UserError: the map is missing, damaged, a colour image, or has a label of no class.
        """
        path = self.map_file(stem)
        values = read_label_map(path, one_bit=self.files.one_bit)
        if values.ndim != 2:
            raise UserError(f"{path} is a colour image: a label map has one value per pixel")
        if values.dtype.kind not in "iu":
            raise UserError(f"{path} has values of type {values.dtype}: labels are whole numbers")
        inside_range = (values >= 0) & (values < _VALUES)
        labels = self._lookup[np.where(inside_range, values, 0)]
        unknown = ~inside_range | (labels == _UNKNOWN)
        if unknown.any():
            raise UserError(
                f"{path} has label {int(values[unknown][0])}, but there are {self.num_classes} "
                f"classes and {self.ignore_value} for unlabelled: is it from another data set?"
            )
        return torch.from_numpy(labels)


def filled(root: Path, path: str, stem: str, *, links: bool = True) -> Path:
    """The path with ``{}`` replaced by an image's stem.

    Args:
        root: of the path, if it is not absolute.
        path: with one pair of braces.
        stem: may hold folders.
        links: also follow links.

    Raises:
        UserError: the result is not below the folder before the braces.
    """
    before, after = path.split("{}")
    folder, _, start = before.rpartition("/")
    base = root / folder if folder or not before.startswith("/") else Path("/")
    return inside(base, f"{start}{stem}{after}", source=root / path, links=links)
