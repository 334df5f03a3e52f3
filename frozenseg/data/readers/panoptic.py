"""COCO's panoptic format: a JSON file, and a colour PNG per image whose pixels are segment ids."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frozenseg.data.images import read_label_map
from frozenseg.data.readers.files import check_unique, complete_entries, load_json
from frozenseg.errors import UserError
from frozenseg.structures import PanopticMap, Segment


def stem_of_file(annotation: Mapping[str, Any]) -> str:
    """COCO and most others: a picture is called like its segment map."""
    return Path(annotation["file_name"]).stem


def stem_of_city(annotation: Mapping[str, Any]) -> str:
    """Cityscapes: pictures lie in a folder per city, which their id begins with."""
    return f"{annotation['image_id'].split('_')[0]}/{annotation['image_id']}"


@dataclass(frozen=True, kw_only=True)
class PanopticFiles:
    """Where a data set's panoptic annotation lies, below the data root.

    Args:
        json: the annotation file.
        maps: the folder of segment maps.
        contiguous: categories are numbered like our classes, not by the data set's own ids.
        void_categories: segments of these count as unlabelled.
        stem_of: the picture's path without its ending, from an annotation.
    """

    json: str
    maps: str
    contiguous: bool = False
    void_categories: tuple[int, ...] = ()
    stem_of: Callable[[Mapping[str, Any]], str] = stem_of_file


class PanopticReader:
    """Segments of all images in a few arrays, so that worker processes share them; maps on demand.

    Args:
        class_ids: contiguous class by category id.
        is_thing: by contiguous class.

    Raises:
        UserError: the JSON file is missing or broken, names an unknown category, or an id twice.
    """

    def __init__(
        self,
        files: PanopticFiles,
        *,
        root: Path,
        class_ids: Mapping[int, int],
        is_thing: Sequence[bool],
    ) -> None:
        self.json, self.maps, self.is_thing = root / files.json, root / files.maps, tuple(is_thing)
        with complete_entries(self.json):
            self._read_json(files, class_ids)

    def _read_json(self, files: PanopticFiles, class_ids: Mapping[int, int]) -> None:
        content = load_json(self.json, lists=["images", "annotations"])
        check_unique((image["id"] for image in content["images"]), path=self.json, what="images")
        annotations = content["annotations"]
        self.image_ids = [annotation["image_id"] for annotation in annotations]
        check_unique(self.image_ids, path=self.json, what="annotations for the image")
        self.stems = [files.stem_of(annotation) for annotation in annotations]
        self.file_names = [annotation["file_name"] for annotation in annotations]
        void = set(files.void_categories)
        infos = [
            [each for each in annotation["segments_info"] if each["category_id"] not in void]
            for annotation in annotations
        ]
        self._bounds = np.cumsum([0, *map(len, infos)])
        self._void_ids = [
            tuple(each["id"] for each in annotation["segments_info"] if each["category_id"] in void)
            for annotation in annotations
        ]
        self._check_categories(infos, class_ids)
        flat = [each for info in infos for each in info]
        self._ids = np.array([each["id"] for each in flat], dtype=np.int32)
        self._classes = np.array([class_ids[each["category_id"]] for each in flat], dtype=np.int16)
        self._crowd = np.array([bool(each.get("iscrowd", 0)) for each in flat], dtype=bool)
        self._areas = np.array([each.get("area", 0) for each in flat], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.image_ids)

    def map_file(self, index: int) -> Path:
        return self.maps / self.file_names[index]

    def segments(self, index: int) -> tuple[Segment, ...]:
        """The segments of one image as the JSON file has them."""
        part = slice(self._bounds[index], self._bounds[index + 1])
        columns = (self._ids, self._classes, self._crowd, self._areas)
        return tuple(
            Segment(
                id=segment_id,
                class_id=class_id,
                is_thing=self.is_thing[class_id],
                is_crowd=crowd,
                area=area,
            )
            for segment_id, class_id, crowd, area in zip(
                *(column[part].tolist() for column in columns), strict=True
            )
        )

    def read(self, index: int) -> PanopticMap:
        """One image's map.

        Raises:
            UserError: the PNG is missing, damaged, no colour image, or has an id that is not in the
                JSON file.
        """
        path, segments = self.map_file(index), self.segments(index)
        ids = ids_of_colors(read_label_map(path), path=path)
        if self._void_ids[index]:
            ids[np.isin(ids, self._void_ids[index])] = 0
        unknown = np.setdiff1d(_values(ids), [0, *(segment.id for segment in segments)])
        if len(unknown):
            raise UserError(
                f"{path} has segment {unknown[0]}, which {self.json.name} does not list for image "
                f"{self.image_ids[index]}: fetch or make both again"
            )
        return PanopticMap(torch.from_numpy(ids), segments)

    def _check_categories(self, infos: list[list[Any]], class_ids: Mapping[int, int]) -> None:
        for image_id, info in zip(self.image_ids, infos, strict=True):
            check_unique(
                (each["id"] for each in info), path=self.json, what=f"segments of image {image_id}"
            )
            for each in info:
                if each["category_id"] not in class_ids or not 0 < each["id"] < 1 << 24:
                    raise UserError(
                        f"{self.json} gives segment {each['id']} of image {image_id} the unknown "
                        f"category {each['category_id']}: is it of another data set?"
                    )


def ids_of_colors(colors: np.ndarray, *, path: Path) -> np.ndarray:
    """(H, W) int32 segment ids of an (H, W, 3) colour map: red + 256 green + 65536 blue."""
    if colors.ndim != 3 or colors.shape[2] < 3 or colors.dtype != np.uint8:
        raise UserError(f"{path} is no colour image: a segment map is an RGB PNG of 8 bits")
    bytes_of_ids = np.zeros((*colors.shape[:2], 4), dtype=np.uint8)  # lowest first
    bytes_of_ids[..., :3] = colors[..., :3]
    return bytes_of_ids.view("<i4")[..., 0].astype(np.int32, copy=False)


def colors_of_ids(ids: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 colours of (H, W) segment ids."""
    return np.stack([ids & 255, (ids >> 8) & 255, (ids >> 16) & 255], axis=-1).astype(np.uint8)


def _values(ids: np.ndarray) -> np.ndarray:
    """Distinct values; only where a run begins is sorted, which is far less than all pixels."""
    flat = ids.ravel()
    return np.unique(np.append(flat[:1], flat[1:][flat[1:] != flat[:-1]]))
