"""A full-size model's names, shapes and counts against recorded ones; no weight is made."""

import math

import numpy as np
import torch
from reference_checks.compare import Row
from reference_checks.reference_model import Case

from frozenseg.builders.frozenseg import build_frozenseg
from frozenseg.checkpoint.weights import official_state
from frozenseg.config import default_config
from frozenseg.towers.loading import RANDOM, load_clip, load_sam


def check_keys(case: Case, arrays: dict[str, np.ndarray]) -> list[Row]:
    """Every name and shape of a state dict, both ways, and how much of it is trained."""
    recorded = {name: tuple(facts["shape"]) for name, facts in case["state_dict"].items()}
    model, num_classes = _build(case)
    state = official_state(model, num_classes=num_classes, no_object_weight=0.1)
    ours = {name: tuple(tensor.shape) for name, tensor in state.items()}
    missing, unknown = sorted(recorded.keys() - ours), sorted(ours.keys() - recorded)
    shapes = [name for name in ours.keys() & recorded if ours[name] != recorded[name]]
    counts = {
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "frozen_parameters": sum(p.numel() for p in model.parameters() if not p.requires_grad),
    }
    return [
        _row("names missing here", missing),
        _row("names unknown to the record", unknown),
        _row("shapes that differ", shapes),
        *(
            Row(
                name,
                "pass" if count == case[name] else "fail",
                float(abs(count - case[name])),
                None,
                0.0,
                f"{count:,}",
            )
            for name, count in counts.items()
        ),
    ]


def _row(name: str, wrong: list[str]) -> Row:
    note = ", ".join(wrong[:4])
    return Row(name, "fail" if wrong else "pass", float(len(wrong)), None, 0.0, note)


def _build(case: Case):
    shapes = case["state_dict"]
    has_sam = any(name.startswith("sam.") for name in shapes)
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE = "FrozenSeg" if has_sam else "FCCLIP"
    cfg.MODEL.FROZEN_SEG.SAM_ATTENTION_LAYOUT = "three_level"
    keys = cfg.MODEL.FROZEN_SEG if has_sam else cfg.MODEL.FC_CLIP
    keys.EMBED_DIM = math.prod(shapes["void_embedding.weight"]["shape"])
    num_classes = math.prod(shapes["criterion.empty_weight"]["shape"]) - 1
    with torch.device("meta"):
        clip = load_clip(case["clip"], RANDOM)
        sam = load_sam("vit_b", RANDOM) if has_sam else None
        return build_frozenseg(cfg, clip=clip, sam=sam), num_classes
