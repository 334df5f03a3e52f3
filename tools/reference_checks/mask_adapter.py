"""What Mask-Adapter's case records beside the values of every model: stages and training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from reference_checks.compare import Row, compare_numbers
from torch import Tensor, nn

from frozenseg.builders.adapter import build_adapter_training
from frozenseg.losses.adapter_masks import (
    LabelledMasks,
    MaskPairs,
    annotated_masks,
    mask_iou,
    mixed_masks,
)
from frozenseg.ops.maps import resize_maps, size_of
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.protocols import TextRows
from frozenseg.pipeline.region_classifiers.mask_adapter import AdaptedMaps
from frozenseg.structures import ClipMap, Target

NOT_COMPARED = (("train_(gt_masks|gt_labels|matched_.+)", "input: drawn at random"),)
LOSS_TOLERANCE = 1e-5  # relative
OFFICIAL_GRADIENTS = {  # under official names, and ours
    "fuse.weight": "fuse.weight",
    "cnext2.dwconv.weight": "blocks.1.conv_dw.weight",
    "cnext3.gamma": "blocks.2.gamma",
    "final.weight": "predict.weight",
    "mask_downscaling.0.weight": "mask_encoder.0.weight",
    "mask_downscaling.6.bias": "mask_encoder.6.bias",
}


def adapter_values(
    regions: AdaptedMaps, clip_map: ClipMap, mask_logits: Tensor, logits: Tensor
) -> dict[str, Tensor]:
    """Returns the stages of the adapter for (Q, H, W) masks, by recorded name.

    Args:
        regions: the region classifier.
        clip_map: of the image.
        mask_logits: of the decoder.
        logits: (Q, K + 1) of the embeddings.
    """
    masks = (mask_logits.sigmoid() > regions.threshold).to(mask_logits)
    embedding_map = regions.embedding_map(clip_map.features)
    adapter = regions.adapter
    heard: dict[str, Tensor] = {}

    def listen(name: str, module: nn.Module) -> Any:
        def keep(_module: nn.Module, _given: Any, result: Any) -> None:
            heard[name] = result

        return module.register_forward_hook(keep)

    hooks = [
        listen("mask_downscaling_out_first3", adapter.mask_encoder),
        listen("after_cnext1_first3", adapter.blocks[0]),
        listen("after_norm_first3", adapter.norm),
    ]
    maps = adapter(embedding_map, masks)
    for hook in hooks:
        hook.remove()
    height, width = size_of(embedding_map)
    return {
        **{name: value[:3] for name, value in heard.items()},
        "clip_embedding_map": embedding_map[0],
        "binary_masks": masks,
        "mask_downscaling_in_q0": resize_maps(masks, (4 * height, 4 * width))[0],
        "activation_maps": maps.flatten(0, 1),
        "pooled_embedding": regions.embed(clip_map.features, masks),
        "out_vocab_logits": logits,
    }


def training_rows(
    system: SegmentationModel,
    cfg: Any,
    case: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    text: TextRows,
    clip_map: ClipMap,
    mask_logits: Tensor,
) -> tuple[dict[str, Tensor], Row]:
    """Returns one update's values and gradients by recorded name, and the comparison of losses.

    The recorded draws of annotated masks and pairs are taken.
    """
    regions = system.region_classifier
    assert isinstance(regions, AdaptedMaps), "the case is of a Mask-Adapter"
    training = build_adapter_training(cfg, system)
    given = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()}
    dtype = clip_map.features.dtype
    target = Target(given["train_gt_labels"].long(), given["train_gt_masks"] > 0)
    size = clip_map.frame.size
    drawn = annotated_masks(target, size, count=training.num_annotated)
    matched = MaskPairs(
        (given["train_matched_pred_mask_logits"].sigmoid() > regions.threshold).float(),
        given["train_matched_target_masks"],
        given["train_matched_labels"].long(),
    )
    masks = mixed_masks(LabelledMasks(*drawn), matched)
    placed = resize_maps(drawn.masks[: len(target.class_ids)], size_of(mask_logits))
    with torch.enable_grad():
        embeddings = regions.embed(clip_map.features, masks.masks.to(dtype))[None]
        losses = training.losses(embeddings, masks.class_ids[None], text)
        void, scale = training.proposer.void, regions.clip.logit_scale
        logits = text.logits(embeddings, scale, void=void)
        torch.stack(list(losses.values())).sum().backward()
    named = dict(regions.adapter.named_parameters())
    values = {
        "train_iou": mask_iou(mask_logits, placed),
        "train_adapter_masks_mean": masks.masks.mean(dim=(1, 2)),
        "train_pooled_embedding": embeddings[0].detach(),
        "train_logits": logits[0].detach(),
        "grad_void": training.proposer.void_embedding.weight.grad,
        **{f"grad_{official}": named[ours].grad for official, ours in OFFICIAL_GRADIENTS.items()},
    }
    found = {name: loss.item() for name, loss in losses.items()}
    training.zero_grad(set_to_none=True)
    row = compare_numbers("losses", found, case["losses"], tolerance=LOSS_TOLERANCE)
    return {name: value for name, value in values.items() if value is not None}, row
