"""One image's result, as users read, draw and save it."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frozenseg.io.files import atomic_write
from frozenseg.structures import Instances, PanopticMap, Result, boxes_of
from frozenseg.visualization.draw import draw_instances, draw_panoptic, draw_semantic
from frozenseg.vocabulary.vocabulary import Vocabulary


@dataclass(frozen=True)
class NamedSegment:
    """One mask and what it is called; ``box`` is (x0, y0, x1, y1), right and bottom exclusive."""

    id: int  # its value in the id map; for instances its rank, from 1
    name: str
    class_id: int
    is_thing: bool
    score: float
    area: int
    box: tuple[int, int, int, int]


class Segmentation:
    """Named segments of one image.

    Attributes:
        image: (H, W, 3) uint8 RGB, as read.
        vocabulary: the words it was segmented with.
        task: panoptic, semantic or instance.
    """

    def __init__(self, *, image: Tensor, vocabulary: Vocabulary, task: str, result: Result) -> None:
        self.image = image.permute(1, 2, 0).cpu().numpy()
        self.vocabulary = vocabulary
        self.task = task
        self._result = result

    @property
    def names(self) -> tuple[str, ...]:
        return self.vocabulary.names

    @cached_property
    def panoptic(self) -> PanopticMap | None:
        """The segment of every pixel, 0 for none."""
        found = self._result.panoptic
        return None if found is None else PanopticMap(found.ids.cpu(), found.segments)

    @cached_property
    def semantic(self) -> np.ndarray | None:
        """The class of every pixel, (H, W)."""
        maps = self._result.semantic
        return None if maps is None else maps.argmax(dim=0).cpu().numpy()

    @cached_property
    def instances(self) -> Instances | None:
        """Scored masks of things, best first."""
        found = self._result.instances
        return None if found is None else Instances(*(value.cpu() for value in found))

    @cached_property
    def segments(self) -> tuple[NamedSegment, ...]:
        """What was found, largest first; instances best first."""
        if self.panoptic is not None:
            ids = torch.tensor(
                [segment.id for segment in self.panoptic.segments], dtype=torch.int32
            )
            masks = self.panoptic.ids == ids[:, None, None]
            rows = [(s.id, s.class_id, s.score) for s in self.panoptic.segments]
        elif self.semantic is not None:
            classes = np.unique(self.semantic)
            masks = torch.from_numpy(self.semantic == classes[:, None, None])
            rows = [(int(c) + 1, int(c), float("nan")) for c in classes]
        else:
            found = self._found_instances()
            masks = found.masks
            pairs = zip(found.class_ids.tolist(), found.scores.tolist(), strict=True)
            rows = [
                (rank, class_id, score) for rank, (class_id, score) in enumerate(pairs, start=1)
            ]
        return self._named(rows, masks)

    def _found_instances(self) -> Instances:
        assert self.instances is not None, "one of the three tasks was asked for"
        return self.instances

    def draw(self) -> Image.Image:
        """The image with its named segments over it."""
        colors = self.vocabulary.colors
        if self.panoptic is not None:
            return draw_panoptic(self.image, self.panoptic, self.names, colors=colors)
        if self.semantic is not None:
            return draw_semantic(self.image, self.semantic, self.names, colors=colors)
        return draw_instances(self.image, self._found_instances(), self.names, colors=colors)

    def to_coco(self) -> dict[str, object]:
        """Size, vocabulary and segments as plain values; keys as in COCO's panoptic format."""
        height, width = self.image.shape[:2]
        return {
            "height": height,
            "width": width,
            "task": self.task,
            "categories": [
                {"id": index, "name": name, "isthing": int(thing)}
                for index, (name, thing) in enumerate(
                    zip(self.names, self.vocabulary.is_thing, strict=True)
                )
            ],
            "segments_info": [_coco_segment(segment) for segment in self.segments],
        }

    def save(self, folder: str | Path, stem: str) -> dict[str, Path]:
        """Writes a drawing, the segments as JSON and, where pixels have one segment, an id map.

        The ids are 16-bit: the segment of each pixel, or 1 + its class for semantic results.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {"drawing": folder / f"{stem}.png", "segments": folder / f"{stem}.json"}
        with atomic_write(paths["drawing"]) as part:
            self.draw().save(part, format="PNG")
        with atomic_write(paths["segments"]) as part:
            Path(part).write_text(json.dumps(self.to_coco(), indent=1) + "\n", encoding="utf-8")
        ids = self._id_map()
        if ids is not None:
            paths["ids"] = folder / f"{stem}_ids.png"
            with atomic_write(paths["ids"]) as part:
                Image.fromarray(ids.astype(np.uint16)).save(part, format="PNG")
        return paths

    def _id_map(self) -> np.ndarray | None:
        if self.panoptic is not None:
            return self.panoptic.ids.numpy()
        return None if self.semantic is None else self.semantic + 1

    def _named(self, rows: list[tuple[int, int, float]], masks: Tensor) -> tuple[NamedSegment, ...]:
        areas = masks.flatten(1).sum(dim=1).tolist()
        boxes = boxes_of(masks).tolist()
        found = [
            NamedSegment(
                id=number,
                name=self.names[class_id],
                class_id=class_id,
                is_thing=self.vocabulary.is_thing[class_id],
                score=score,
                area=area,
                box=tuple(box),
            )
            for (number, class_id, score), area, box in zip(rows, areas, boxes, strict=True)
        ]
        if self.instances is not None:
            return tuple(found)
        return tuple(sorted(found, key=lambda segment: -segment.area))


def _coco_segment(segment: NamedSegment) -> dict[str, object]:
    values = asdict(segment)
    x0, y0, x1, y1 = values.pop("box")
    score = None if segment.score != segment.score else round(segment.score, 4)
    return {
        "id": values["id"],
        "category_id": segment.class_id,
        "name": segment.name,
        "isthing": int(segment.is_thing),
        "score": score,
        "area": segment.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
    }
