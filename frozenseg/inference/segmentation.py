"""The segmentation of one image, to read, draw, export and save."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from frozenseg.errors import UserError
from frozenseg.inference.conversions import data_frame, detections
from frozenseg.inference.result_files import coco_record, write_segmentation
from frozenseg.inference.segments_table import segments_text
from frozenseg.io.files import user_path
from frozenseg.structures import Instances, PanopticMap, Result, boxes_of
from frozenseg.visualization.draw import (
    DEFAULT_STYLE,
    SHOWN_SCORE,
    DrawingStyle,
    draw_instances,
    draw_panoptic,
    draw_semantic,
)
from frozenseg.visualization.palette import Color
from frozenseg.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections


@dataclass(frozen=True)
class NamedSegment:
    """One mask with its class name; ``box`` is (x0, y0, x1, y1), right and bottom exclusive."""

    id: int  # its value in the id map; for instances their rank, from 1
    name: str
    class_id: int
    is_thing: bool
    score: float  # in [0, 1]; NaN for semantic results, which have none
    area: int  # pixels
    box: tuple[int, int, int, int]


class Segmentation:
    """The named segments of one image.

    ``masks``, ``names``, ``scores``, ``boxes`` and ``areas`` have one entry per segment, in the
    order of ``segments``: largest first, or best first for instances.

    Attributes:
        image: (H, W, 3) uint8 RGB, at its original size.
        vocabulary: the classes that the image was segmented with.
        task: ``panoptic``, ``semantic`` or ``instance``.
        shown_score: instances with a lower score are neither drawn nor printed.
        source: the image's file; None if there is none.
    """

    def __init__(
        self,
        *,
        image: Tensor,
        vocabulary: Vocabulary,
        task: str,
        result: Result,
        shown_score: float = SHOWN_SCORE,
        source: Path | None = None,
    ) -> None:
        self.image = image.permute(1, 2, 0).cpu().numpy()
        self.vocabulary = vocabulary
        self.task = task
        self.shown_score, self.source = shown_score, source
        self._result = result

    def __len__(self) -> int:
        return len(self.segments)

    def __str__(self) -> str:
        return segments_text(self)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"<Segmentation: {self.task}, {len(self)} segments, {height} x {width} pixels>"

    def _repr_png_(self) -> bytes:
        """The drawing, as notebooks show it."""
        content = io.BytesIO()
        self.draw().save(content, format="PNG")
        return content.getvalue()

    @cached_property
    def panoptic(self) -> PanopticMap | None:
        """The id map, 0 for void, and its segments; None for other tasks."""
        found = self._result.panoptic
        return None if found is None else PanopticMap(found.ids.cpu(), found.segments)

    @cached_property
    def semantic(self) -> NDArray[np.integer] | None:
        """(H, W) class ids; None for other tasks."""
        found = self._result.semantic
        return None if found is None else found.cpu().numpy()

    @cached_property
    def instances(self) -> Instances | None:
        """Scored masks of things, best first; None for other tasks."""
        found = self._result.instances
        return None if found is None else Instances(*(value.cpu() for value in found))

    @cached_property
    def segments(self) -> tuple[NamedSegment, ...]:
        """All segments, largest first; instances best first."""
        if self.instances is not None:
            pairs = zip(
                self.instances.class_ids.tolist(), self.instances.scores.tolist(), strict=True
            )
            rows = [(rank, *pair) for rank, pair in enumerate(pairs, start=1)]
            return self._segments_of(rows, self.instances.masks)
        if self.panoptic is not None:
            rows = [(each.id, each.class_id, each.score) for each in self.panoptic.segments]
        else:
            numbers = np.unique(self.id_map).tolist()
            rows = [(number, number - 1, float("nan")) for number in numbers]
        masks = (torch.from_numpy(self.id_map == number) for number, *_ in rows)
        found = self._segments_of(rows, masks)
        return tuple(sorted(found, key=lambda segment: -segment.area))

    @cached_property
    def id_map(self) -> NDArray[np.integer]:
        """(H, W) id of the segment of each pixel, 0 for none; of semantic results 1 + class id.

        Raises:
            UserError: instances may overlap and have no id map.
        """
        if self.panoptic is not None:
            return self.panoptic.ids.numpy()
        if self.semantic is not None:
            return self.semantic + 1
        raise UserError("instances may overlap and have no id map: use their masks")

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool."""
        if self.instances is not None:
            return self.instances.masks.numpy()
        ids = np.array([segment.id for segment in self.segments], dtype=np.int64)
        return self.id_map == ids[:, None, None]

    @property
    def names(self) -> tuple[str, ...]:
        """N class names."""
        return tuple(segment.name for segment in self.segments)

    @property
    def scores(self) -> NDArray[np.floating]:
        """(N,) in [0, 1]; NaN for semantic results, which have no scores."""
        return np.array([segment.score for segment in self.segments], dtype=np.float32)

    @property
    def boxes(self) -> NDArray[np.integer]:
        """(N, 4) boxes (x0, y0, x1, y1), pixels, right and bottom exclusive."""
        boxes = [segment.box for segment in self.segments]
        return np.array(boxes, dtype=np.int64).reshape(-1, 4)

    @property
    def areas(self) -> NDArray[np.integer]:
        """(N,) pixels."""
        return np.array([segment.area for segment in self.segments], dtype=np.int64)

    def above(self, min_score: float) -> "Segmentation":
        """Returns the segmentation without segments below ``min_score``.

        Raises:
            UserError: semantic results have no scores.
        """
        kept = self._result
        if self.panoptic is not None:
            segments = tuple(s for s in self.panoptic.segments if s.score >= min_score)
            inside = torch.isin(self.panoptic.ids, torch.tensor([s.id for s in segments]).int())
            ids = torch.where(inside, self.panoptic.ids, 0)
            kept = Result(panoptic=PanopticMap(ids, segments))
        elif self.instances is not None:
            rows = self.instances.scores >= min_score
            kept = Result(instances=Instances(*(value[rows] for value in self.instances)))
        else:
            raise UserError("semantic results have no scores: use the task panoptic or instance")
        return Segmentation(
            image=torch.from_numpy(self.image).permute(2, 0, 1),
            vocabulary=self.vocabulary,
            task=self.task,
            result=kept,
            shown_score=min_score,
            source=self.source,
        )

    def draw(
        self,
        *,
        alpha: float = DEFAULT_STYLE.alpha,
        colors: Sequence[Color] | None = None,
        min_score: float | None = None,
        scores: bool = False,
    ) -> Image.Image:
        """Draws the segments over the image, at the size of the image.

        Args:
            alpha: opacity of the segments' colours, 0 to 1.
            colors: RGB by class id; None takes those of the vocabulary.
            min_score: segments with a lower score are not drawn; None draws all, and instances
                from ``shown_score`` on.
            scores: write the score beside each name.
        """
        if min_score is not None:
            return self.above(min_score).draw(alpha=alpha, colors=colors, scores=scores)
        style = DrawingStyle(colors or self.vocabulary.colors, alpha, scores, enlarge=False)
        names = self.vocabulary.names
        if self.panoptic is not None:
            return draw_panoptic(self.image, self.panoptic, names, style)
        if self.instances is not None:
            shown = self.shown_score
            return draw_instances(self.image, self.instances, names, style, min_score=shown)
        return draw_semantic(self.image, self.id_map - 1, names, style)

    def to_coco(self, *, rle: bool = False) -> dict[str, object]:
        """Size, classes and segments as plain values, with the keys of COCO's panoptic format.

        Args:
            rle: add each mask as ``segmentation``, in the compressed RLE of pycocotools.
        """
        return coco_record(self, rle=rle)

    def to_pandas(self) -> "DataFrame":
        """A table with one row per segment: id, name, class_id, is_thing, score, area, x0 to y1.

        Raises:
            UserError: pandas is not installed.
        """
        return data_frame(self)

    def to_supervision(self) -> "Detections":
        """The ``Detections`` of the library supervision: boxes, masks, scores, classes, names.

        Raises:
            UserError: supervision is not installed.
        """
        return detections(self)

    def save(
        self,
        folder: str | Path,
        stem: str | None = None,
        *,
        masks: bool = False,
        scores: bool = False,
        drawing: bool = True,
    ) -> dict[str, Path]:
        """Writes the drawing, the segments as JSON and the id map; returns the paths by kind.

        The id map is a 16-bit PNG. Instances have none: their JSON has each mask as RLE.

        Args:
            folder: created if missing.
            stem: the files are named ``stem.png``, ``stem.json`` and ``stem_ids.png``; None: the
                name of the image's file, else ``image``.
            masks: also write one PNG per segment, 255 inside, to the folder ``stem_masks``.
            scores: write scores beside the names in the drawing.
            drawing: write the drawing.

        Raises:
            UserError: a file would replace the image itself, or cannot be written.
        """
        stem = stem or ("image" if self.source is None else self.source.stem)
        return write_segmentation(
            self, user_path(folder), stem, masks=masks, scores=scores, drawing=drawing
        )

    def _segments_of(
        self, rows: Sequence[tuple[int, int, float]], masks: Iterable[Tensor]
    ) -> tuple[NamedSegment, ...]:
        """Segments of (id, class id, score) and (H, W) masks, one mask at a time."""
        return tuple(
            NamedSegment(
                id=number,
                name=self.vocabulary.names[class_id],
                class_id=class_id,
                is_thing=self.vocabulary.is_thing[class_id],
                score=score,
                area=int(mask.count_nonzero()),  # a sum of bools would copy them as int64
                box=tuple(boxes_of(mask[None])[0].tolist()),
            )
            for (number, class_id, score), mask in zip(rows, masks, strict=True)
        )
