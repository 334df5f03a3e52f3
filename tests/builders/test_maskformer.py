"""From a configuration to MaskFormer at full size, and to the parts of its training."""

import pytest
import torch

from frozenseg.builders.maskformer import (
    build_maskformer,
    build_maskformer_criterion,
    build_semantic_mapper,
    maskformer_outline,
)
from frozenseg.builders.training import build_adamw
from frozenseg.config import ConfigError, load_config
from frozenseg.data.color_jitter import ColorJitter
from frozenseg.errors import UserError

LARGE, SMALL = "ovseg/ovseg_swin_base_vit_l14.yaml", "ovseg/ovseg_r101c_vit_b16.yaml"
TINY = [
    *("MODEL.BACKBONE.WEIGHTS", ""),
    *("MODEL.SWIN.EMBED_DIM", "8"),
    *("MODEL.SWIN.DEPTHS", "(1, 2, 1, 1)"),
    *("MODEL.SWIN.NUM_HEADS", "(1, 1, 2, 2)"),
    *("MODEL.SWIN.WINDOW_SIZE", "4"),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.MASK_DIM", "16"),
    *("MODEL.SEM_SEG_HEAD.EMBEDDING_DIM", "24"),
    *("MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.MASK_FORMER.NHEADS", "2"),
]


@pytest.mark.parametrize(
    ("name", "trained", "parts"),
    [
        (LARGE, 102_841_720, (86_880_376, 4_951_808, 11_008_768, 768)),
        (SMALL, 60_721_920, (42_172_416, 7_540_480, 11_008_512, 512)),
    ],
)
def test_the_published_sizes(name: str, trained: int, parts: tuple[int, ...]) -> None:
    model = maskformer_outline(load_config(name))
    sizes: dict[str, int] = {}
    for key, value in model.named_parameters():
        if value.requires_grad:
            part = key.partition(".")[0]
            sizes[part] = sizes.get(part, 0) + value.numel()
    names = ("backbone", "pixel_decoder", "transformer_decoder", "void_embedding")
    assert sizes == dict(zip(names, parts, strict=True))
    assert sum(parts) == trained


def test_the_recipe_of_the_large_model() -> None:
    cfg = load_config(LARGE)
    model = maskformer_outline(cfg)
    groups = build_adamw(cfg, model).param_groups
    assert {group["initial_lr"] for group in groups} == {6e-5}
    decay = {p: group["weight_decay"] for group in groups for p in group["params"]}
    without = {name for name, p in model.named_parameters() if decay[p] == 0}
    with_decay = {name for name, p in model.named_parameters() if decay[p] == 0.01}
    assert without | with_decay == {name for name, _ in model.named_parameters()}
    assert "transformer_decoder.query_positions.weight" in without
    assert "backbone.layers.2.blocks.17.attn.relative_position_bias_table" in without
    assert "backbone.norm3.bias" in without and "void_embedding" in with_decay
    mapper = build_semantic_mapper(cfg)
    assert (mapper.crop_size, mapper.short_sides, mapper.max_size) == (
        640,
        tuple(range(320, 1281, 64)),
        2560,
    )
    assert mapper.flip == 0.5 and mapper.color_jitter == ColorJitter()
    criterion = build_maskformer_criterion(cfg)
    for part in (criterion, criterion.matcher):
        assert (part.class_weight, part.mask_weight, part.dice_weight) == (1.0, 20.0, 1.0)
    assert criterion.no_object_weight == 0.1
    assert (criterion.matcher.alpha, criterion.matcher.gamma) == (0.25, 2.0)


def test_the_small_models_backbone_learns_slower_and_in_part() -> None:
    cfg = load_config(SMALL)
    model = maskformer_outline(cfg)
    rates = {p: g["initial_lr"] for g in build_adamw(cfg, model).param_groups for p in g["params"]}
    named = dict(model.named_parameters())
    assert rates[named["backbone.res5.2.conv2.weight"]] == pytest.approx(2e-5)
    assert rates[named["pixel_decoder.mask_features.weight"]] == 2e-4
    assert named["backbone.res2.2.conv3.weight"] not in rates
    assert build_semantic_mapper(cfg).crop_size == 512


def test_sizes_follow_the_keys() -> None:
    model = build_maskformer(load_config(LARGE, TINY))
    assert model.void.shape == (24,)
    assert model.backbone.channels == (8, 16, 32, 64)
    assert len(model.transformer_decoder.blocks) == 6
    assert model.padded_size([(33, 64)]) == (64, 64)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.BACKBONE.NAME", "CLIP"),
        ("MODEL.RESNETS.DEPTH", "18"),
        ("MODEL.MASK_FORMER.SIZE_DIVISIBILITY", "16"),
    ],
)
def test_what_it_does_not_offer_is_named(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key):
        name = SMALL if "RESNETS" in key else LARGE
        build_maskformer(load_config(name, [*TINY, key, value]))


@pytest.mark.parametrize("sizes", ["()", "(64, 5000)"])
def test_sizes_that_no_image_can_have_are_refused(sizes: str) -> None:
    with pytest.raises(ConfigError, match=r"INPUT\.MIN_SIZE_TRAIN is .*MAX_SIZE_TRAIN.* 2560"):
        build_semantic_mapper(load_config(LARGE, ["INPUT.MIN_SIZE_TRAIN", sizes]))


def test_colours_and_flip_can_be_turned_off() -> None:
    off = ["INPUT.COLOR_AUG_SSD", "False", "INPUT.RANDOM_FLIP", "none"]
    mapper = build_semantic_mapper(load_config(LARGE, off))
    assert mapper.color_jitter is None and mapper.flip == 0.0


def test_backbone_weights_that_are_neither_file_nor_known_are_refused() -> None:
    with pytest.raises(UserError, match=r"MODEL\.BACKBONE\.WEIGHTS is 'nowhere\.pth', neither"):
        build_maskformer(load_config(LARGE, [*TINY, "MODEL.BACKBONE.WEIGHTS", "nowhere.pth"]))


def test_backbone_weights_are_loaded(tmp_path) -> None:
    cfg = load_config(LARGE, TINY)
    torch.manual_seed(1)
    state = build_maskformer(cfg).backbone.state_dict()
    torch.save(state, tmp_path / "swin.pth")
    override = ["MODEL.BACKBONE.WEIGHTS", str(tmp_path / "swin.pth")]
    torch.manual_seed(2)
    loaded = build_maskformer(load_config(LARGE, [*TINY, *override])).backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())
