"""Attention of a query over the image in the last decoder layer (Fig. 6)."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

from frozenseg.inference.predictor import Predictor
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.modeling.layers import Attention
from frozenseg.modeling.transformer_decoder import TransformerDecoder
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.masks import image_masks
from frozenseg.structures import InputImage, boxes_of
from frozenseg.visualization.heat import draw_heat
from frozenseg.visualization.highlight_boxes import with_box
from frozenseg.visualization.labels import draw_labels, label_at
from frozenseg.visualization.layout import enlarged


class QueryView(NamedTuple):
    """One query of one image."""

    query: int
    class_id: int  # its best one, but void
    score: float
    weights: Tensor  # (h, w) of the cells that the image touches; over the padded one they sum to 1
    cell_px: int  # side of a cell, in pixels of the image as the model sees it
    mask: Tensor  # (H, W) bool, at the size that the model sees


@torch.inference_mode()
def look_at_query(
    predictor: Predictor, image: Tensor, *, among: Tensor | None = None, on: Tensor | None = None
) -> QueryView:
    """The query that is surest of its class; with ``on``, the one whose mask fits that object best.

    Args:
        image: (3, H, W), as the model shall see it.
        among: (K,) bool: a query's class is one of these; None: any.
        on: (H, W) bool, the mask of an object.
    """
    proposer = predictor.model.proposer
    assert isinstance(proposer, FrozenSeg), "the figure is drawn for models with a decoder"
    shown = InputImage(image.to(predictor.seen.device), image, size_of(image))
    with AttentionRecorder(proposer.transformer_decoder) as recorder:
        (proposals,) = predictor.propose([shown])
    height, width = size_of(image)
    masks = image_masks(proposals) > 0
    scores, classes = _scores(predictor.class_probs(shown, proposals).general, among)
    query = int((scores if on is None else _iou(masks, on.to(masks.device))).argmax())
    weights, cell_px = recorder.weights_of(query, proposals.frame.size)
    return QueryView(
        query,
        int(classes[query]),
        scores[query].item(),
        weights[: -(-height // cell_px), : -(-width // cell_px)],
        cell_px,
        masks[query],
    )


class AttentionRecorder:
    """Keeps what the last layer's cross-attention is given, for as long as it is open."""

    def __init__(self, decoder: TransformerDecoder) -> None:
        attention = decoder.blocks[-1].cross_attention
        assert isinstance(attention, Attention), "every block attends with the shared module"
        self.attention = attention

    def __enter__(self) -> "AttentionRecorder":
        self._handle = self.attention.register_forward_pre_hook(self._keep, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def weights_of(self, query: int, padded_size: tuple[int, int]) -> tuple[Tensor, int]:
        """A query's (h, w) weights in the first image of the last pass, and a cell's side."""
        weights = attention_weights(self.attention, *self._given)[0, query]
        height, width = padded_size
        cell_px = round((height * width / len(weights)) ** 0.5)
        return weights.view(height // cell_px, width // cell_px), cell_px

    def _keep(self, _: object, given: tuple[Tensor, ...], options: dict[str, Tensor]) -> None:
        self._given = (given[0], given[1], options["blocked"])


def attention_weights(attention: Attention, query: Tensor, key: Tensor, blocked: Tensor) -> Tensor:
    """Returns (B, Q, T) attention weights, the mean over heads.

    Args:
        attention: the module, which itself never keeps its weights.
        query: (B, Q, C), as given to the module.
        key: (B, T, C), as given to the module.
        blocked: (B, Q, T) bool, as given to the module.
    """
    weights, biases = attention.in_proj.weight.chunk(3), attention.in_proj.bias.chunk(3)
    query, key = (
        F.linear(tokens, weight, bias).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for tokens, weight, bias in zip((query, key), weights[:2], biases[:2], strict=True)
    )
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return logits.masked_fill(blocked[:, None], -torch.inf).softmax(dim=-1).mean(dim=1)


def draw_object(image: Tensor, view: QueryView, name: str) -> Image.Image:
    """The (3, H, W) image with the query's object in a frame, named, with the score.

    The frame is around the largest part of its mask.
    """
    picture = enlarged(image.permute(1, 2, 0).cpu().numpy())
    size = (picture.height, picture.width)
    scale = picture.height / image.shape[-2]
    corner = (0.0, 0.0)
    if view.mask.any():
        x0, y0, x1, y1 = boxes_of(largest_part(view.mask)[None])[0].tolist()
        picture = with_box(picture, (x0, y0, x1, y1), (image.shape[-2], image.shape[-1]))
        corner = (x0 * scale, y0 * scale)
    text, points = f"{name} {view.score:.2f}", max(14, min(size) // 24)
    label = label_at(corner, text, size, color=(255, 255, 255), font_size=points)
    draw_labels(picture, [label])
    return picture


def draw_attention(image: Tensor, view: QueryView) -> Image.Image:
    """The (3, H, W) image under the query's weights, the largest brightest."""
    height, width = image.shape[-2:]
    covered = F.interpolate(
        view.weights[None, None].float(), scale_factor=view.cell_px, mode="bilinear"
    )
    return draw_heat(image, covered[0, 0, :height, :width])


def largest_part(mask: Tensor) -> Tensor:
    """Of an (H, W) mask, its largest connected part: stray pixels would widen a frame."""
    parts = np.zeros(mask.shape, dtype=np.int32)
    ndimage.label(mask.cpu().numpy(), output=parts)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return torch.from_numpy(parts == areas.argmax())


def _scores(class_probs: Tensor, among: Tensor | None) -> tuple[Tensor, Tensor]:
    """(Q,) each query's score and class, void apart."""
    probs = class_probs[:, :-1]
    if among is not None:
        probs = probs.masked_fill(~among, 0)
    return probs.max(dim=-1)


def _iou(masks: Tensor, other: Tensor) -> Tensor:
    common = (masks & other).flatten(1).sum(dim=1)
    return common / (masks | other).flatten(1).sum(dim=1).clamp(min=1)
