"""Models rebuilt from a description: sizes from a JSON file, weights drawn by a rule.

Reference outputs of the official implementation come with such descriptions, so that they can be
compared with without anybody's weights.
"""

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import open_clip
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from frozenseg.builders.model import build_model
from frozenseg.checkpoint.members import check_members, load_members
from frozenseg.checkpoint.weights import load_state, split_state
from frozenseg.config import known_keys, load_config
from frozenseg.io.weight_files import WeightsFile
from frozenseg.modeling.frozenseg import FrozenSeg
from frozenseg.pipeline.model import SegmentationModel
from frozenseg.towers.clip import ClipTower
from frozenseg.towers.clip_folder import register_convnext
from frozenseg.towers.loading import clip_tower
from frozenseg.towers.sam import SamTower
from frozenseg.towers.sam_folder import sam_from_config
from frozenseg.vocabulary.vocabulary import Vocabulary

Case = Mapping[str, Any]  # the JSON that describes a model and what was recorded of it

# names under "resolved" and the keys that they are the values of
RESOLVED = {
    "size_divisibility": "MODEL.MASK_FORMER.SIZE_DIVISIBILITY",
    "nheads": "MODEL.MASK_FORMER.NHEADS",
    "dec_layers": "MODEL.MASK_FORMER.DEC_LAYERS",
    "dim_feedforward": "MODEL.MASK_FORMER.DIM_FEEDFORWARD",
    "hidden_dim": "MODEL.MASK_FORMER.HIDDEN_DIM",
    "num_queries": "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES",
    "pixel_decoder_ffn_dim": "MODEL.SEM_SEG_HEAD.DIM_FEEDFORWARD",
    "conv_dim": "MODEL.SEM_SEG_HEAD.CONVS_DIM",
    "mask_dim": "MODEL.SEM_SEG_HEAD.MASK_DIM",
    "transformer_enc_layers": "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS",
    "geometric_ensemble_alpha": "MODEL.CLIP.GEOMETRIC_ENSEMBLE_ALPHA",
    "geometric_ensemble_beta": "MODEL.CLIP.GEOMETRIC_ENSEMBLE_BETA",
    "ensemble_on_valid_mask": "MODEL.CLIP.ENSEMBLE_ON_VALID_MASK",
    "mask_threshold": "MODEL.MASK_ADAPTER.MASK_THRESHOLD",
    "iou_threshold": "MODEL.MASK_ADAPTER.IOU_THRESHOLD",
    "num_gt_masks": "MODEL.MASK_ADAPTER.NUM_GT_MASKS",
    "num_pred_masks": "MODEL.MASK_ADAPTER.NUM_PRED_MASKS",
    "clip_trust_weight": "MODEL.OVRCOAT.CLIP_TRUST_WEIGHT",
    "object_mask_threshold": "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD",
    "overlap_threshold": "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD",
    "detections_per_image": "TEST.DETECTIONS_PER_IMAGE",
}


def drawn_weights(table: Mapping[str, Case], *, prefix: str = "") -> dict[str, Tensor]:
    """The weights of a table, each drawn from a generator that its own name seeds.

    Args:
        prefix: put before a name when it seeds. Entries of the rule ``keep`` are left out.
    """
    return {
        name: _drawn(rule.get("seed_key", prefix + name), rule)
        for name, rule in table.items()
        if rule.get("rule") != "keep"
    }


def _drawn(key: str, rule: Case) -> Tensor:
    dtype = np.dtype(rule.get("dtype", "float64"))
    if rule.get("rule") == "const":
        return torch.from_numpy(np.full(rule["shape"], rule["value"], dtype))
    normal = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(rule["shape"])
    if rule.get("rule") == "abs":
        normal = np.abs(normal)
    return torch.from_numpy(np.asarray(rule["mean"] + rule["std"] * normal, dtype))


def checksum(state: Mapping[str, Tensor]) -> int:
    """CRC-32 over the bytes of all tensors in the order of their names."""
    total = 0
    for name in sorted(state):
        total = zlib.crc32(state[name].numpy().tobytes(), total)
    return total


def build_reference(case: Case) -> tuple[SegmentationModel, CfgNode]:
    """The model that a case describes, with its weights, and its configuration.

    Raises:
        ValueError: the weights drawn here are not those of the description.
    """
    weights = drawn_weights(case["weights"])
    if checksum(weights) != case["weights_crc32"]:
        raise ValueError("the weights drawn differ from those described (weights_crc32)")
    cfg = reference_config(case)
    model = build_model(cfg, clip=reference_clip(case), sam=reference_sam(case), weights=weights)
    assert isinstance(model.proposer, FrozenSeg), "the cases are of FrozenSeg and FC-CLIP"
    source, stored = "the description", WeightsFile(weights, {})
    parts = split_state(weights, source=source)
    check_members(model, parts, source=source)
    load_members(model, parts)
    load_state(model.proposer, stored, source=source, towers="use")
    return model.eval(), cfg


def reference_config(case: Case) -> CfgNode:
    """Returns the configuration of a case; keys unknown to this project are ignored."""
    config, resolved = case["config"], case["config"].get("resolved", {})
    clip = "FROZEN_SEG" if _has_sam(case) else "FC_CLIP"
    base = config.get("base_config_file", "")
    values = {
        "MODEL.META_ARCHITECTURE": "FrozenSeg" if _has_sam(case) else "FCCLIP",
        f"MODEL.{clip}.EMBED_DIM": config["clip_model_config"]["embed_dim"],
        f"MODEL.{clip}.ENSEMBLE_ON_VALID_MASK": bool(re.search(r"r(50|101)", base)),
        "MODEL.OVRCOAT.COAT_OUTPUTS": "all",  # as in the official code
        "MODEL.PIPELINE.REGION_CLASSIFIER": _region_classifier(case),
        **config["overrides"],
        **{
            key.replace("MODEL.CLIP", f"MODEL.{clip}"): resolved[name]
            for name, key in RESOLVED.items()
            if name in resolved
        },
    }
    known = {key: str(value) for key, value in values.items() if key in known_keys()}
    return load_config(overrides=[part for pair in known.items() for part in pair])


def reference_vocabularies(case: Case) -> tuple[Vocabulary, Vocabulary]:
    """The training and the test classes of a case."""
    words = case["vocabulary"]
    return _vocabulary(words, "train"), _vocabulary(words, "test")


def _vocabulary(words: Case, part: str) -> Vocabulary:
    things = set(words.get(f"{part}_thing_contiguous_ids", ()))
    return Vocabulary(
        synonyms=tuple(_synonyms(names) for names in words[part]),
        is_thing=tuple(index in things for index in range(len(words[part]))),
    )


def _synonyms(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(","))


def _region_classifier(case: Case) -> str:
    adapted = any(name.startswith("mask_adapter.") for name in case["weights"])
    return "mask_adapter" if adapted else "pooled_map"


def _has_sam(case: Case) -> bool:
    return any(name.startswith("sam.") for name in case["weights"])


def reference_clip(case: Case) -> ClipTower:
    """The CLIP tower of a case's sizes, with random weights."""
    config = case["config"]
    if convnext := config.get("timm_convnext"):
        register_convnext(convnext["name"], convnext["depths"], convnext["dims"])
    model = open_clip.CLIP(**config["clip_model_config"])
    context_length = config["clip_model_config"]["text_cfg"].get("context_length", 77)
    tokenize = open_clip.SimpleTokenizer(context_length=context_length)
    return clip_tower(model, tokenize=tokenize, name="reference")


def reference_sam(case: Case) -> SamTower | None:
    """The SAM tower of a case's sizes, with random weights; none for FC-CLIP."""
    if not _has_sam(case):
        return None
    sizes = case["config"]["sam"]
    decoder = sizes["mask_decoder"]
    encoder = ("depth", "embed_dim", "num_heads", "mlp_ratio", "qkv_bias", "use_rel_pos")
    return SamTower(
        sam_from_config(
            {
                "image_size": sizes["img_size"],
                "patch_size": sizes["patch_size"],
                "out_channels": sizes["out_chans"],
                "encoder": _taken(sizes, (*encoder, "global_attn_indexes", "window_size")),
                "transformer": {
                    "depth": decoder["transformer_depth"],
                    "mlp_dim": decoder["transformer_mlp_dim"],
                    "num_heads": decoder["num_heads"],
                },
                "decoder": _taken(
                    decoder, ("num_multimask_outputs", "iou_head_depth", "iou_head_hidden_dim")
                ),
            }
        )
    )


def _taken(values: Case, names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names}
