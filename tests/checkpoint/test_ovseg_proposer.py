"""Names and shapes of the published OVSeg checkpoints against our modules at full size."""

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from frozenseg.builders.maskformer import maskformer_outline
from frozenseg.checkpoint.ovseg_proposer import (
    CLIP_PREFIXES,
    LOSS_WEIGHTS,
    from_official,
    is_ovseg,
    to_official,
)
from frozenseg.config import load_config

# pattern of names: their number, then every shape that occurs
PATTERNS = json.loads(Path(__file__).with_name("ovseg_proposer_keys.json").read_text())
MODELS = {
    "r101c_vitb16": "ovseg/ovseg_r101c_vit_b16.yaml",
    "swinb_vitl14": "ovseg/ovseg_swin_base_vit_l14.yaml",
}
NOT_OURS = ("clip_adapter.pixel_mean", "clip_adapter.pixel_std")  # of the region classifier


def official_state(model: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Our full-size weights, without values, and the same under official names."""
    ours = maskformer_outline(load_config(MODELS[model])).trainable_state()
    official, unknown = to_official(ours)
    assert unknown == []
    return ours, official


@pytest.mark.parametrize("model", MODELS)
def test_all_official_names_have_our_number_and_shapes(model: str) -> None:
    _, official = official_state(model)
    patterns = {
        name: re.compile(re.escape(name).replace(r"\{i\}", r"\d+")) for name in PATTERNS[model]
    }
    found: dict[str, list] = defaultdict(list)
    for name, value in official.items():
        (pattern,) = [key for key, regex in patterns.items() if regex.fullmatch(name)]
        found[pattern].append(list(value.shape))
    expected = {key: value for key, value in PATTERNS[model].items() if key not in NOT_OURS}
    assert found.keys() == expected.keys()
    for pattern, (count, *shapes) in expected.items():
        assert len(found[pattern]) == count, pattern
        assert sorted(map(tuple, shapes)) == sorted({tuple(shape) for shape in found[pattern]})


@pytest.mark.parametrize(("model", "backbone"), [("r101c_vitb16", 530), ("swinb_vitl14", 357)])
def test_the_parts_have_the_published_numbers_of_names(model: str, backbone: int) -> None:
    names = list(official_state(model)[1])
    counts = {
        prefix: sum(name.startswith(prefix) for name in names)
        for prefix in ("backbone.", "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor.")
    }
    assert list(counts.values()) == [backbone, 23, 123]
    assert len(names) == sum(counts.values()) + 2
    with_clip = [*names, *NOT_OURS, "clip_adapter.clip_model.visual.mask_embedding"]
    assert is_ovseg(dict.fromkeys(with_clip)) and not is_ovseg({"sem_seg_head.x": torch.zeros(1)})


@pytest.mark.parametrize("model", MODELS)
def test_names_there_and_back(model: str) -> None:
    ours, official = official_state(model)
    rest = {f"{prefix}x": torch.zeros(1) for prefix in CLIP_PREFIXES}
    back, unknown = from_official(official | rest)
    assert unknown == []
    assert back.keys() == ours.keys()
    assert all(back[name] is value for name, value in ours.items())


def test_counters_and_roles() -> None:
    layer = "sem_seg_head.predictor.transformer.decoder.layers.5"
    pairs = {
        "sem_seg_head.pixel_decoder.adapter_1.norm.bias": "pixel_decoder.laterals.0.norm.bias",
        "sem_seg_head.pixel_decoder.layer_4.weight": "pixel_decoder.outputs.3.weight",
        f"{layer}.self_attn.in_proj_weight": "blocks.5.self_attention.in_proj.weight",
        f"{layer}.multihead_attn.out_proj.bias": "blocks.5.cross_attention.out_proj.bias",
        f"{layer}.norm1.bias": "blocks.5.self_norm.bias",
        f"{layer}.norm2.bias": "blocks.5.cross_norm.bias",
        f"{layer}.norm3.bias": "blocks.5.feed_forward.norm.bias",
        f"{layer}.linear2.bias": "blocks.5.feed_forward.linear2.bias",
        "sem_seg_head.predictor.mask_embed.layers.2.bias": "mask_embedding.4.bias",
        "clip_adapter.non_object_embedding": "void_embedding",
    }
    for official, ours in pairs.items():
        (name,) = from_official({official: torch.zeros(1)})[0]
        assert name == ours or name == f"transformer_decoder.{ours}"


def test_values_that_follow_from_others_are_written() -> None:
    table = torch.zeros(9, 2)  # of windows of 2 x 2
    name = "backbone.layers.0.blocks.0.attn.relative_position_bias_table"
    official, _ = to_official({name: table}, num_classes=3, no_object_weight=0.5)
    assert official[LOSS_WEIGHTS].tolist() == [1, 1, 1, 0.5]
    index = official["backbone.layers.0.blocks.0.attn.relative_position_index"]
    assert index[0].tolist() == [4, 3, 1, 0]


def test_what_nobody_knows_is_listed() -> None:
    ours, unknown = from_official({"sem_seg_head.other": torch.zeros(1)})
    assert (ours, unknown) == ({}, ["sem_seg_head.other"])
    assert to_official({"pixel_decoder.more": torch.zeros(1)})[1] == ["pixel_decoder.more"]
