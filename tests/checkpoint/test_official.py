import gzip
import json
from pathlib import Path

import pytest
import torch

from frozenseg.checkpoint.official import (
    LOSS_WEIGHTS,
    from_official,
    is_official,
    to_official,
)

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = ("frozenseg_convnext_large", "frozenseg_rn50x64", "fcclip_convnext_large")


def names_of(model: str) -> list[str]:
    content = gzip.decompress((GOLDEN / f"keys_{model}.json.gz").read_bytes())
    return list(json.loads(content)["state_dict"])


@pytest.mark.golden
@pytest.mark.parametrize("model", MODELS)
def test_every_official_name_has_one_of_ours_and_comes_back(model: str) -> None:
    state = {name: torch.tensor(index) for index, name in enumerate(names_of(model))}
    ours, unknown = from_official(state)
    assert unknown == []
    assert len(ours) == len(state) - 1  # all but the loss's class weights
    back, unknown = to_official(ours, num_classes=133, no_object_weight=0.1)
    assert unknown == []
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state if name != LOSS_WEIGHTS)


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        ("sem_seg_head.predictor.class_embed.layers.2.bias", "class_embedding.4.bias"),
        (
            "sem_seg_head.predictor.transformer_cross_attention_layers_sam.6.norm.weight",
            "feature_injectors.7.norm.weight",
        ),
        (
            "sem_seg_head.predictor.transformer_self_attention_layers.8.self_attn.in_proj_bias",
            "blocks.8.self_attention.in_proj.bias",
        ),
    ],
)
def test_counters_follow_the_paper(official: str, ours: str) -> None:
    names, _ = from_official({official: torch.zeros(1)})
    assert list(names) == [f"transformer_decoder.{ours}"]


def test_what_nobody_knows_is_listed() -> None:
    ours, unknown = from_official({"sem_seg_head.other": torch.zeros(1), "ema.x": torch.zeros(1)})
    assert (ours, unknown) == ({}, ["sem_seg_head.other", "ema.x"])
    _, unknown = to_official(
        {"pixel_decoder.more": torch.zeros(1)}, num_classes=1, no_object_weight=1
    )
    assert unknown == ["pixel_decoder.more"]


def test_official_files_are_told_by_their_head() -> None:
    assert is_official(["backbone.x", "sem_seg_head.predictor.logit_scale"])
    assert not is_official(["pixel_decoder.encoder.level_embedding", "logit_scale"])
