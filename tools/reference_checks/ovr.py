"""What OVRCOAT's case records of OVR, the training of CLIP's image trunk."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from reference_checks.compare import Row, compare_numbers
from torch import Tensor

from frozenseg.builders.trunk import build_trunk_training
from frozenseg.losses.criterion import MatchedTargets
from frozenseg.losses.region_losses import RegionPredictions
from frozenseg.losses.representation import representation_loss
from frozenseg.ops.maps import size_of
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.pipeline.protocols import TextRows
from frozenseg.structures import Target

NOT_COMPARED = ((r"train_(gt|matched)_.+|reg_.", "input"),)
LOSS_TOLERANCE = 1e-5  # relative
GRADIENT = "grad_backbone.clip_model."


def training_rows(
    system: SegmentationModel,
    cfg: Any,
    case: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    text: TextRows,
    image: Tensor,
    mask_logits: Tensor,
) -> tuple[dict[str, Tensor], list[Row]]:
    """Returns OVR's values and gradients by recorded name, and the comparison of its losses.

    The recorded pairs of queries and targets are taken.

    Args:
        system: of the case.
        cfg: its configuration.
        case: the description.
        arrays: what was recorded.
        text: rows of the training classes.
        image: (3, H, W).
        mask_logits: (Q, h, w) of the last layer.
    """
    training = build_trunk_training(cfg, system).eval()
    given = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()}
    class_ids = given["train_gt_labels"].long()[given["train_matched_targets"]]
    matches = MatchedTargets(given["train_matched_queries"], class_ids)
    size = system.proposer.padded_size([size_of(image)])
    clip = training.clip
    with torch.enable_grad():
        clip_map = clip(clip.normalize([image], size).to(mask_logits)).clip_map
        logits = training.region_logits(clip_map, mask_logits[None], text)
        regions = RegionPredictions(logits, mask_logits[None], size)
        targets = [Target(given["train_gt_labels"].long(), given["train_gt_masks"] > 0)]
        losses = training.region_loss(regions, targets, matches)
        losses["loss_oov_ce"].backward()
    named = dict(clip.model.named_parameters())
    values = {"train_out_vocab_probs": logits[0].detach().softmax(dim=-1)}
    for name in given:
        if name.startswith(GRADIENT):
            gradient = named[name.removeprefix(GRADIENT)].grad
            assert gradient is not None, "the trunk is trained"
            values[name] = gradient
    found = {name: loss.item() for name, loss in losses.items()}
    found["rc_loss"] = representation_loss(given["reg_a"], given["reg_b"]).item()
    training.zero_grad(set_to_none=True)
    recorded = {name: case[name] for name in found}
    return values, [compare_numbers("losses", found, recorded, tolerance=LOSS_TOLERANCE)]
