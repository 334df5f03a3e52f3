"""Images with their annotations, read when asked for."""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from frozenseg.data.derived import labels_of_panoptic, panoptic_of_labels, panoptic_of_objects
from frozenseg.data.images import Photo, read_label_map, read_photo
from frozenseg.data.readers.files import missing_files, size_advice
from frozenseg.data.readers.instances import InstanceReader
from frozenseg.data.readers.label_maps import LabelMapReader, filled
from frozenseg.data.readers.panoptic import PanopticReader
from frozenseg.errors import UserError
from frozenseg.structures import InstanceAnnotation, PanopticMap, Sample

logger = logging.getLogger(__name__)

Exif = Literal["apply", "ignore", "ask"]
Task = Literal["panoptic", "semantic", "instance"]


class BadFile(NamedTuple):
    """A file or an entry that was left out."""

    path: Path
    reason: str  # "missing", or a sentence

    def __str__(self) -> str:
        return f"{self.path} is missing" if self.reason == "missing" else self.reason


@dataclass(frozen=True, kw_only=True)
class Readers:
    """The sources of a data set's annotations.

    Args:
        panoptic, semantic, instances: None for a kind that is not read. A panoptic reader's images
            are in the order of the samples; an instance reader is asked by image id.
        instance_ids: path of one map of Cityscapes' object numbers, with ``{}`` for the stem.
        covered_stuff: label maps whose pixel counts are the areas of stuff segments, where the
            official annotation counts pixels that objects cover (ADE20K).
    """

    panoptic: PanopticReader | None = None
    semantic: LabelMapReader | None = None
    instances: InstanceReader | None = None
    instance_ids: str | None = None
    covered_stuff: LabelMapReader | None = None


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """The images of a data set, before anything is read.

    Args:
        path: of one image below the data root, with ``{}`` for its name.
        ids: image ids.
        names: what fills the braces.
        stems: what fills those of label maps.
        exif: apply the EXIF orientation, ignore it, or ask the user where sizes cannot tell whether
            the masks follow it.
    """

    path: str
    ids: Sequence[int | str]
    names: Sequence[str]
    stems: Sequence[str]
    exif: Exif = "apply"


class DatasetSamples(Sequence[Sample]):
    """A data set on disk.

    Args:
        root: of all paths that are not absolute.
        images: the list of images.
        readers: where the annotations come from.
        wanted: kinds of annotation that a sample has; those without a reader are made from others.
        is_thing: by class.
        ignore_label: of label maps that are made from panoptic ones.
        skip_bad: leave out images of which a file is missing, and list them in ``skipped``.

    Raises:
        UserError: a file is missing, and ``skip_bad`` is off or nothing is left.
    """

    def __init__(
        self,
        *,
        root: Path,
        images: ImageList,
        readers: Readers,
        wanted: Collection[Task],
        is_thing: Sequence[bool],
        ignore_label: int = 255,
        skip_bad: bool = False,
    ) -> None:
        self.root, self.images, self.readers = root, images, readers
        self.wanted, self.is_thing, self.ignore_label = frozenset(wanted), is_thing, ignore_label
        missing = dict.fromkeys(missing_files(self._files(range(len(images.ids)))))
        self.skipped = (*self._faults(), *(BadFile(path, "missing") for path in missing))
        if missing and not skip_bad:
            more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
            raise UserError(
                f"{next(iter(missing))} is missing{more}: `frozenseg datasets check NAME` "
                "says how to get or make it; or leave such images out with --skip-bad"
            )
        self._rows: Sequence[int] = range(len(images.ids))
        if missing:
            bad = missing.keys()
            self._rows = [row for row in self._rows if bad.isdisjoint(self._files([row]))]
        if not self._rows:
            first = f": the first reason is that {self.skipped[0]}" if self.skipped else ""
            raise UserError(
                f"none of {len(images.ids)} samples is complete{first}; run "
                "`frozenseg datasets check NAME`"
            )
        if self.skipped:
            logger.warning(
                "%d bad entries or files are left out; the first: %s",
                len(self.skipped),
                self.skipped[0],
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image and its annotations.

        Raises:
            UserError: a file is damaged, or does not fit the others.
        """
        row, path = self._rows[index], self.image_file(index)
        photo = read_photo(path, upright=self.images.exif != "ignore")
        size = (photo.pixels.shape[1], photo.pixels.shape[2])
        _ask_for_orientation(photo, path, self.images.exif)
        panoptic = self._read_panoptic(row, size, path)
        semantic = self._read_semantic(row, size, path)
        objects = self._read_objects(row, size)
        if panoptic is None and "panoptic" in self.wanted:
            if objects is not None:
                panoptic = panoptic_of_objects(
                    objects, size, is_thing=self.is_thing, labels=semantic
                )
            elif semantic is not None:
                panoptic = panoptic_of_labels(
                    semantic, is_thing=self.is_thing, ignore_label=self.ignore_label
                )
        if semantic is None and panoptic is not None and "semantic" in self.wanted:
            semantic = labels_of_panoptic(panoptic, ignore_label=self.ignore_label)
        instances, federated = None, None
        if objects is not None and self.readers.instances is not None:
            instances = tuple(each for each in objects if self.is_thing[each.class_id])
            federated = self.readers.instances.federated(self.images.ids[row])
        return Sample(
            image=photo.pixels,
            image_id=self.images.ids[row],
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
        return self.images.ids[self._rows[index]]

    def read_pixels(self, index: int) -> Tensor:
        """(3, H, W) uint8 RGB of one image, without its annotations."""
        return read_photo(self.image_file(index), upright=self.images.exif != "ignore").pixels

    def _faults(self) -> Iterator[BadFile]:
        """Entries that the readers left out."""
        for reader in (self.readers.panoptic, self.readers.instances):
            if reader is not None:
                yield from (BadFile(reader.json, sentence) for sentence in reader.faults)

    def _read_panoptic(self, row: int, size: tuple[int, int], image: Path) -> PanopticMap | None:
        reader, covered = self.readers.panoptic, self.readers.covered_stuff
        if reader is None:
            return None
        panoptic = reader.read(row)
        _check_size(panoptic.ids, reader.map_file(row), size, image)
        if covered is None:
            return panoptic
        labels = covered.read(self.images.stems[row])
        return PanopticMap(
            panoptic.ids,
            tuple(
                each if each.is_thing else each._replace(area=int((labels == each.class_id).sum()))
                for each in panoptic.segments
            ),
        )

    def _read_semantic(self, row: int, size: tuple[int, int], image: Path) -> Tensor | None:
        reader = self.readers.semantic
        if reader is None:
            return None
        stem = self.images.stems[row]
        labels = reader.read(stem)
        _check_size(labels, reader.map_file(stem), size, image)
        return labels

    def _read_objects(
        self, row: int, size: tuple[int, int]
    ) -> tuple[InstanceAnnotation, ...] | None:
        reader = self.readers.instances
        return None if reader is None else reader.read(self.images.ids[row], size)

    def _read_instance_ids(self, row: int, size: tuple[int, int], image: Path) -> Tensor | None:
        if self.readers.instance_ids is None:
            return None
        path = filled(self.root, self.readers.instance_ids, self.images.stems[row])
        values = torch.from_numpy(read_label_map(path).astype(np.int32))
        _check_size(values, path, size, image)
        return values

    def _image_file(self, row: int, *, links: bool = True) -> Path:
        return filled(self.root, self.images.path, self.images.names[row], links=links)

    def _files(self, rows: Iterable[int]) -> Iterator[Path]:
        """All files of some samples; links are followed only when a file is read."""
        readers = self.readers
        for row in rows:
            stem = self.images.stems[row]
            yield self._image_file(row, links=False)
            if readers.panoptic is not None:
                yield readers.panoptic.map_file(row, links=False)
            for maps in (readers.semantic, readers.covered_stuff):
                if maps is not None:
                    yield maps.map_file(stem, links=False)
            if readers.instance_ids is not None:
                yield filled(self.root, readers.instance_ids, stem, links=False)


def _check_size(labels: Tensor, map_file: Path, size: tuple[int, int], image_file: Path) -> None:
    if tuple(labels.shape) != size:
        height, width = labels.shape[:2]
        raise UserError(
            f"{map_file} is {width} x {height} pixels, but {image_file} {size[1]} x {size[0]}: "
            f"{size_advice((height, width), size)}"
        )


def _ask_for_orientation(photo: Photo, path: Path, exif: Exif) -> None:
    """Refuses an EXIF orientation that keeps the size, where the user has not said what it means.

    Raises:
        UserError: as above.
    """
    height, width = photo.pixels.shape[1:]
    keeps_size = photo.orientation in (2, 3, 4) or (photo.orientation >= 5 and height == width)
    if exif == "ask" and keeps_size:
        raise UserError(
            f"{path} has the EXIF orientation {photo.orientation}, and its size does not tell if "
            "its masks follow: set 'exif: apply' or 'exif: ignore' in the data set file"
        )
