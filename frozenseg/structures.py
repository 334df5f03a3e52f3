"""The small records that travel between modules.

Axes, once for all: B image, Q query, K class, S synonym, C channel, H W pixels, h w cells at a
stride, L level, P point, M head, N target. Sizes are ``(height, width)``; boxes are ``(x0, y0, x1,
y1)`` in pixels.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class Target(NamedTuple):
    """The annotation of one training image: one entry per panoptic segment, thing or stuff."""

    class_ids: Tensor  # (N,) int64, contiguous ids
    masks: Tensor  # (N, H, W) bool, at the size of the padded batch or smaller


class Prediction(NamedTuple):
    """One prediction head's output for a batch."""

    class_logits: Tensor  # (B, Q, K + 1), the last column is void
    mask_logits: Tensor  # (B, Q, h, w) at stride 4


class InputImage(NamedTuple):
    """One image on its way through the pipeline.

    Attributes:
        pixels: (3, h, w) RGB in 0..255, at the size that the model sees.
        original: (3, H, W) uint8 RGB before resizing; crops and SAM's masks are made from it.
        output_size: (height, width) of the results, pixels.
        sam_masks: (P, H, W) SAM mask logits over the original, if already computed (eq. 4).
        target: annotated masks at the size of the original; read only by the ground-truth proposer.
    """

    pixels: Tensor
    original: Tensor
    output_size: tuple[int, int]
    sam_masks: Tensor | None = None
    target: Target | None = None


class Frame(NamedTuple):
    """The pixel grid that a map covers: an image in the top left corner, then padding."""

    size: tuple[int, int]  # of the whole grid, pixels
    image_size: tuple[int, int]  # of the part that shows the image; equal to ``size`` if unpadded


class ClipMap(NamedTuple):
    """The feature map of one image from which a CLIP tower embeds regions."""

    features: Tensor  # (1, C, h, w)
    frame: Frame  # what the map covers
    source: object  # the tower that computed it; only the same tower can reuse it


class Proposals(NamedTuple):
    """Masks that a proposer found in one image.

    Attributes:
        mask_logits: (Q, h, w) over ``frame``, at any resolution; positive inside the mask.
        frame: the pixel grid that the masks cover.
        class_logits: (Q, K + 1) of the proposer's own classifier, void last; None if it has none.
        clip_map: CLIP features that the proposer computed on the way, for others to reuse.
    """

    mask_logits: Tensor
    frame: Frame
    class_logits: Tensor | None = None
    clip_map: ClipMap | None = None


class Regions(NamedTuple):
    """CLIP embeddings of the regions under an image's masks."""

    embeddings: Tensor  # (Q, D), any length
    judged: Tensor  # (Q,) bool: False where the classifier could not see anything of the mask
    logit_scale: Tensor | float  # of CLIP, already exponentiated and clamped


class Segment(NamedTuple):
    """One segment of a panoptic map."""

    id: int  # its value in the id map, never 0
    class_id: int  # contiguous
    is_thing: bool
    is_crowd: bool = False
    area: int = 0  # pixels, as the annotation states it
    score: float = 1.0


class PanopticMap(NamedTuple):
    """Every pixel's segment: 0 is void."""

    ids: Tensor  # (H, W) int32
    segments: tuple[Segment, ...]


class Instances(NamedTuple):
    """Scored thing masks, best first."""

    class_ids: Tensor  # (N,) int64
    scores: Tensor  # (N,) in [0, 1]
    masks: Tensor  # (N, H, W) bool
    boxes: Tensor  # (N, 4) around the masks


class InstanceAnnotation(NamedTuple):
    """One annotated object; objects of an image may overlap."""

    class_id: int
    mask: Tensor  # (H, W) bool
    is_crowd: bool = False
    area: float | None = None  # for size bins, as the annotation states it; None: the mask's pixels


class FederatedLabels(NamedTuple):
    """Of which classes an LVIS image's annotation speaks, besides those it shows."""

    absent: tuple[int, ...]  # class ids known not to be there: a detection is wrong
    incomplete: tuple[int, ...]  # class ids not all of whose objects are marked: it may be right


@dataclass(frozen=True)
class Sample:
    """One image of a data set with whatever annotation it has.

    ``panoptic`` holds contiguous class ids; ``semantic`` is (H, W) int64 with the data set's ignore
    label.
    """

    image: Tensor  # (3, H, W) uint8 RGB
    image_id: int | str
    file_name: str
    panoptic: PanopticMap | None = None
    semantic: Tensor | None = None
    instances: tuple[InstanceAnnotation, ...] | None = None
    federated: FederatedLabels | None = None
    instance_ids: Tensor | None = None  # (H, W) int32, Cityscapes' own encoding of its objects


@dataclass(frozen=True)
class Result:
    """The outputs for one image, at the requested size."""

    semantic: Tensor | None = None  # (H, W) int64 class ids
    panoptic: PanopticMap | None = None
    instances: Instances | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    class_maps: Tensor | None = None  # (K, H, W) scores behind ``semantic``; only on request


def boxes_of(masks: Tensor) -> Tensor:
    """Tight boxes around (N, H, W) bool masks, right and bottom exclusive; zeros if empty."""
    columns, rows = masks.any(dim=-2), masks.any(dim=-1)
    boxes = [_extent(columns), _extent(rows)]
    (x0, x1), (y0, y1) = boxes
    return torch.stack([x0, y0, x1, y1], dim=-1)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    length = occupied.shape[-1]
    first = occupied.int().argmax(dim=-1)
    last = length - occupied.flip(-1).int().argmax(dim=-1)
    return first, torch.where(occupied.any(dim=-1), last, 0)
