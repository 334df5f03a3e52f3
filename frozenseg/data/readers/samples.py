"""Pictures with their annotations, read when asked for."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frozenseg.data.images import read_image, read_label_map
from frozenseg.data.readers.files import missing_files
from frozenseg.data.readers.instances import InstanceReader
from frozenseg.data.readers.label_maps import LabelMapReader
from frozenseg.data.readers.panoptic import PanopticReader
from frozenseg.errors import UserError
from frozenseg.structures import Sample


class BadFile(NamedTuple):
    """What was left out, and why."""

    path: Path
    reason: str


class DatasetSamples(Sequence[Sample]):
    """A data set on disk.

    Args:
        images: path of one picture below ``root``, with ``{}`` for its stem.
        ids: image ids.
        stems: of the pictures, in the same order.
        panoptic, semantic, instances: where the annotations come from. A panoptic reader's images
            are in the same order; an instance reader is asked by image id.
        instance_ids: path of one map of Cityscapes' object numbers, with ``{}`` for the stem.
        skip_bad: leave out images of which a file is missing, and list them in ``skipped``.

    Raises:
        UserError: a file is missing, and ``skip_bad`` is off or nothing is left.
    """

    def __init__(
        self,
        *,
        root: Path,
        images: str,
        ids: Sequence[int | str],
        stems: Sequence[str],
        panoptic: PanopticReader | None = None,
        semantic: LabelMapReader | None = None,
        instances: InstanceReader | None = None,
        instance_ids: str | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.root, self.images = root, images
        self.ids, self.stems = ids, stems
        self.panoptic, self.semantic, self.instances = panoptic, semantic, instances
        self.instance_ids = instance_ids
        missing = dict.fromkeys(missing_files(self._files(range(len(ids)))))
        self.skipped = tuple(BadFile(path, "missing") for path in missing)
        if missing and not skip_bad:
            more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
            raise UserError(
                f"{next(iter(missing))} is missing{more}: fetch or make it as datasets/README.md "
                "says, or leave such images out with --skip-bad"
            )
        self._rows: Sequence[int] = range(len(ids))
        if missing:
            bad = missing.keys()
            self._rows = [row for row in self._rows if bad.isdisjoint(self._files([row]))]
        if not self._rows:
            lack = f": the first lacks {next(iter(missing))}" if missing else ""
            raise UserError(f"none of {len(ids)} samples is complete{lack}; see datasets/README.md")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """Reads one picture and its annotations.

        Raises:
            UserError: a file is damaged, or does not fit the others.
        """
        row, path = self._rows[index], self.image_file(index)
        image = read_image(path)
        size = (image.shape[1], image.shape[2])
        panoptic, semantic, instances, federated = None, None, None, None
        if self.panoptic is not None:
            panoptic = self.panoptic.read(row)
            _check_size(panoptic.ids, self.panoptic.map_file(row), size, path)
        if self.semantic is not None:
            semantic = self.semantic.read(self.stems[row])
            _check_size(semantic, self.semantic.map_file(self.stems[row]), size, path)
        if self.instances is not None:
            instances = self.instances.read(self.ids[row], size)
            federated = self.instances.federated(self.ids[row])
        return Sample(
            image=image,
            image_id=self.ids[row],
            file_name=str(path),
            panoptic=panoptic,
            semantic=semantic,
            instances=instances,
            federated=federated,
            instance_ids=self._read_instance_ids(row, size, path),
        )

    def image_file(self, index: int) -> Path:
        return self._image_file(self._rows[index])

    def image_id(self, index: int) -> int | str:
        return self.ids[self._rows[index]]

    def _read_instance_ids(self, row: int, size: tuple[int, int], image: Path) -> Tensor | None:
        if self.instance_ids is None:
            return None
        path = self.root / self.instance_ids.format(self.stems[row])
        values = torch.from_numpy(read_label_map(path).astype(np.int32))
        _check_size(values, path, size, image)
        return values

    def _image_file(self, row: int) -> Path:
        return self.root / self.images.format(self.stems[row])

    def _files(self, rows: Iterable[int]) -> Iterator[Path]:
        for row in rows:
            yield self._image_file(row)
            if self.panoptic is not None:
                yield self.panoptic.map_file(row)
            if self.semantic is not None:
                yield self.semantic.map_file(self.stems[row])
            if self.instance_ids is not None:
                yield self.root / self.instance_ids.format(self.stems[row])


def _check_size(labels: Tensor, map_file: Path, size: tuple[int, int], image_file: Path) -> None:
    if tuple(labels.shape) != size:
        raise UserError(
            f"{map_file} is {labels.shape[1]} x {labels.shape[0]} pixels, but {image_file} "
            f"{size[1]} x {size[0]}: they do not belong together"
        )
