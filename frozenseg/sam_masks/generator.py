"""SAM's zero-shot masks of an image: a grid of point prompts, then filters (sec. 3.2 and 4.4)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.utils.amg import (
    batched_mask_to_box,
    build_point_grid,
    calculate_stability_score,
)
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torchvision.ops import nms

from frozenseg.towers.sam import SamTower

STABILITY_OFFSET = 1.0  # masks cut at plus and minus this logit are compared
FULL_SIZE_AT_ONCE = 32  # masks in memory at the size of the image
WITH_DIAGONALS = np.ones((3, 3), dtype=bool)

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """Prompts and filters of SAM's masks; the defaults are the paper's.

    Args:
        points_per_side: of the square grid of prompts; each proposes three masks.
        iou_threshold: SAM's own estimate of a mask's IoU must be larger.
        stability_threshold: minimum IoU of the masks cut at logits 1 and -1.
        nms_threshold: of masks whose boxes overlap by more, the one with the better estimate is
            kept.
        min_region_px: smaller holes and islands are removed.
        max_masks: maximum number of masks; the largest are kept.
    """

    points_per_side: int = 32
    iou_threshold: float = 0.8
    stability_threshold: float = 0.7
    nms_threshold: float = 0.7
    min_region_px: int = 100
    max_masks: int = 50


@dataclass(frozen=True, eq=False)
class SamMasks:
    """SAM's masks of one image, the largest first.

    The logits are SAM's low-resolution output, cropped to the image (with one more row and column
    if there are some, so that enlarging gives the same values). Area and box are those of the
    full-size mask without small holes and islands.
    """

    low_res_logits: Tensor  # (P, h, w)
    predicted_iou: Tensor  # (P,)
    stability: Tensor  # (P,)
    boxes: Tensor  # (P, 4) int64
    areas: Tensor  # (P,) int64, pixels
    image_size: Size
    square: int  # side of SAM's input, pixels; the image's long side is resized to it
    stride: int  # pixels of the square per logit

    def __len__(self) -> int:
        return len(self.low_res_logits)

    def logits(self) -> Tensor:
        """Returns (P, H, W) mask logits at the size of the image, as SAM does."""
        return enlarged(self.low_res_logits, self.image_size, self.square, self.stride)

    def at(self, index: Tensor | slice) -> "SamMasks":
        """Returns a selection of the masks."""
        return replace(self, **{name: getattr(self, name)[index] for name in PER_MASK})


PER_MASK = ("low_res_logits", "predicted_iou", "stability", "boxes", "areas")
MaskSource = Callable[[Tensor], SamMasks]  # maps a (3, H, W) uint8 RGB image to its masks


class SamMaskGenerator:
    """Prompts SAM with a grid of points and filters the masks.

    The image is RGB. (The official code passes BGR to SAM.)

    Args:
        tower: its complete SAM is used, with prompt encoder and mask decoder.
        settings: grid and filters.
        points_per_batch: prompts per batch; larger is faster on a GPU and needs more memory.
    """

    def __init__(
        self, tower: SamTower, *, settings: MaskSettings, points_per_batch: int = 64
    ) -> None:
        self.sam, self.image_size = cast(Sam, tower.model), tower.image_size
        self.settings, self.points_per_batch = settings, points_per_batch

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> SamMasks:
        """Returns the masks of a (3, H, W) uint8 RGB image, possibly none."""
        size: Size = (image.shape[-2], image.shape[-1])
        embedding = self._embed(image)
        grid = torch.from_numpy(build_point_grid(self.settings.points_per_side)).float()
        batches = grid.to(embedding.device).split(self.points_per_batch)
        found = _joined([self._prompt(embedding, points, size) for points in batches])
        kept = nms(found.boxes.float(), found.predicted_iou, self.settings.nms_threshold)
        return _largest(self._cleaned(found.at(kept)), self.settings.max_masks)

    def _embed(self, image: Tensor) -> Tensor:
        """Returns SAM's embedding of the image, resized with its aspect ratio and padded."""
        sam = self.sam
        pixels = image.permute(1, 2, 0).cpu().numpy()
        pixels = ResizeLongestSide(self.image_size).apply_image(pixels)
        batch = torch.as_tensor(pixels, device=sam.device).permute(2, 0, 1)[None]
        return sam.image_encoder(sam.preprocess(batch))

    def _prompt(self, embedding: Tensor, points: Tensor, size: Size) -> SamMasks:
        """Returns the masks of (N, 2) points in [0, 1], three per point, that pass the filters."""
        sam, settings = self.sam, self.settings
        scaled = scaled_size(size, self.image_size)
        coords = points[:, None] * points.new_tensor(scaled[::-1])
        labels = torch.ones(len(points), 1, dtype=torch.int, device=points.device)
        sparse, dense = sam.prompt_encoder(points=(coords, labels), boxes=None, masks=None)
        logits, predicted_iou = sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        stride = self.image_size // logits.shape[-1]
        rows, columns = (-(-side // stride) + 1 for side in scaled)
        logits, predicted_iou = logits.flatten(0, 1)[:, :rows, :columns], predicted_iou.flatten()
        sure = predicted_iou > settings.iou_threshold
        logits, predicted_iou = logits[sure], predicted_iou[sure]
        stability, boxes, areas = _measured(logits, size, self.image_size, stride)
        masks = SamMasks(
            low_res_logits=logits,
            predicted_iou=predicted_iou,
            stability=stability,
            boxes=boxes,
            areas=areas,
            image_size=size,
            square=self.image_size,
            stride=stride,
        )
        return masks.at(masks.stability >= settings.stability_threshold)

    def _cleaned(self, masks: SamMasks) -> SamMasks:
        """Measures boxes and areas without small holes and islands, and repeats the suppression.

        Of two overlapping masks, one without such regions is preferred.
        """
        boxes, areas, untouched = [], [], []
        for start in range(0, len(masks), FULL_SIZE_AT_ONCE):
            part = masks.at(slice(start, start + FULL_SIZE_AT_ONCE))
            for mask in (part.logits() > 0).cpu().numpy():
                cleaned = without_small_regions(mask, self.settings.min_region_px)
                boxes.append(_inclusive_box(cleaned))
                areas.append(int(cleaned.sum()))
                untouched.append(cleaned is mask)
        cleaned = replace(
            masks,
            boxes=masks.boxes.new_tensor(boxes).reshape(-1, 4),
            areas=masks.areas.new_tensor(areas),
        )
        preference = masks.predicted_iou.new_tensor(untouched)
        return cleaned.at(nms(cleaned.boxes.float(), preference, self.settings.nms_threshold))


def scaled_size(size: Size, square: int) -> Size:
    """Returns the (height, width) of an image resized to SAM's square by its long side."""
    return ResizeLongestSide.get_preprocess_shape(*size, square)


def enlarged(low_res_logits: Tensor, size: Size, square: int, stride: int) -> Tensor:
    """Enlarges (P, h, w) logits to the size of the image in SAM's two steps.

    Args:
        low_res_logits: (P, h, w).
        size: (height, width) of the image, pixels.
        square: side of SAM's input, pixels.
        stride: pixels of the square per logit.
    """
    height, width = scaled_size(size, square)
    if not len(low_res_logits):
        return low_res_logits.new_zeros((0, *size))
    logits = F.interpolate(
        low_res_logits[None], scale_factor=stride, mode="bilinear", align_corners=False
    )[..., :height, :width]
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0]


def without_small_regions(mask: np.ndarray, min_region_px: int) -> np.ndarray:
    """Fills small holes and removes small islands of an (H, W) mask; the largest island is kept.

    Returns the mask itself if nothing changes.
    """
    left, top, right, bottom = _inclusive_box(mask)
    window = slice(max(top - 1, 0), bottom + 2), slice(max(left - 1, 0), right + 2)
    inside = mask[window]  # labelling only around the mask saves most of the time
    cleaned = _without_islands(
        _without_holes(inside, mask.shape, window, min_region_px), min_region_px
    )
    if cleaned is inside:
        return mask
    whole = np.zeros_like(mask)
    whole[window] = cleaned
    return whole


def _without_holes(
    mask: np.ndarray, size: Size, window: tuple[slice, slice], min_region_px: int
) -> np.ndarray:
    """Fills holes in a ``window`` of a mask; regions that reach beyond the window are not holes."""
    labels, sizes = _regions(~mask)
    small = sizes < min_region_px
    small[0] = False
    (rows, columns), (height, width) = window, size
    for open_edge, edge in (
        (rows.start > 0, labels[0]),
        (rows.stop < height, labels[-1]),
        (columns.start > 0, labels[:, 0]),
        (columns.stop < width, labels[:, -1]),
    ):
        if open_edge:
            small[edge] = False
    return mask | small[labels] if small.any() else mask


def _without_islands(mask: np.ndarray, min_region_px: int) -> np.ndarray:
    labels, sizes = _regions(mask)
    kept = sizes >= min_region_px
    kept[0] = False
    if kept.sum() == len(sizes) - 1:
        return mask
    if not kept.any():
        kept[1 + sizes[1:].argmax()] = True
    return kept[labels]


def _regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the region of each pixel (0: none) and the size of each region in pixels."""
    from scipy import ndimage  # slow to import, and needed only for SAM's masks

    labels = np.empty(mask.shape, dtype=np.int32)
    count = cast(int, ndimage.label(mask, WITH_DIAGONALS, output=labels))
    return labels, np.bincount(labels.ravel(), minlength=count + 1)


def _measured(
    logits: Tensor, size: Size, square: int, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns stability, box and area of masks at the size of the image."""
    whole = {"dtype": torch.int64, "device": logits.device}
    stability = [logits.new_zeros(0)]
    boxes, areas = [torch.zeros((0, 4), **whole)], [torch.zeros(0, **whole)]
    for part in logits.split(FULL_SIZE_AT_ONCE) if len(logits) else ():
        full = enlarged(part, size, square, stride)
        stability.append(calculate_stability_score(full, 0.0, STABILITY_OFFSET))
        boxes.append(batched_mask_to_box(full > 0))
        areas.append((full > 0).flatten(1).sum(dim=1))
    return torch.cat(stability), torch.cat(boxes), torch.cat(areas)


def _inclusive_box(mask: np.ndarray) -> list[int]:
    """Returns a box that includes its last row and column, as SAM compares boxes."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1], rows[-1]] if len(rows) else [0, 0, 0, 0]


def _joined(parts: list[SamMasks]) -> SamMasks:
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in PER_MASK}
    return replace(parts[0], **columns)


def _largest(masks: SamMasks, count: int) -> SamMasks:
    """Returns the largest masks, with right and bottom of the boxes exclusive."""
    order = masks.areas.sort(descending=True, stable=True).indices[:count]
    kept = masks.at(order)
    return replace(kept, boxes=kept.boxes + kept.boxes.new_tensor([0, 0, 1, 1]))
