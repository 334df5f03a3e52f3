import open_clip
import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.towers.clip import ClipTower, ConvNeXtClip, ResNetClip
from frozenseg.towers.loading import clip_tower

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture(scope="module")
def resnet() -> ClipTower:
    torch.manual_seed(0)
    vision = {"layers": [1, 1, 1, 1], "width": 16, "image_size": 96, "head_width": 64}
    model = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=TEXT)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    tokenize = open_clip.SimpleTokenizer(context_length=12)
    return clip_tower(model, tokenize=tokenize, name="a small ResNet")


def attention_pool_one_query(tower: ClipTower, clip_map: Tensor, keep: Tensor) -> Tensor:
    """One mask of one image through PyTorch's own multi-head attention, token by token."""
    pool = tower.model.visual.attnpool
    channels, height, width = clip_map.shape
    side = round((len(pool.positional_embedding) - 1) ** 0.5)
    grid = pool.positional_embedding[1:].reshape(1, side, side, channels).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)
    cells = clip_map.flatten(1).T
    query = cells.mean(dim=0) + pool.positional_embedding[0]
    cells = cells + grid[0].flatten(1).T
    embedding, _ = F.multi_head_attention_forward(
        query=query[None, None],
        key=cells[:, None],
        value=cells[:, None],
        embed_dim_to_check=channels,
        num_heads=pool.num_heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        training=False,
        attn_mask=~keep.flatten()[None],
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    return embedding[0, 0]


@torch.no_grad()
@pytest.mark.parametrize("size", [(3, 3), (4, 5)])
def test_resnet_region_embeddings_equal_pytorchs_attention_mask_by_mask(resnet, size) -> None:
    clip_map = torch.randn(2, resnet.channels[-1], *size)
    mask_logits = torch.randn(2, 6, *size)
    embeddings = resnet.embed_regions(clip_map, mask_logits)
    assert embeddings.shape == (2, 6, resnet.embed_dim)
    for image in range(2):
        for query in range(6):
            keep = mask_logits[image, query] > 0
            expected = attention_pool_one_query(resnet, clip_map[image], keep)
            torch.testing.assert_close(embeddings[image, query], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_mask_over_everything_gives_clips_own_image_embedding_without_its_mean_token(resnet):
    """CLIP's pooling also lets the query see itself; only that key is missing here."""
    clip_map = torch.randn(1, resnet.channels[-1], 3, 3)
    pool = resnet.model.visual.attnpool
    everything = resnet.embed_regions(clip_map, torch.ones(1, 1, 3, 3))[0, 0]
    tokens = clip_map.flatten(2).permute(2, 0, 1)
    tokens = torch.cat([tokens.mean(dim=0, keepdim=True), tokens])
    tokens = tokens + pool.positional_embedding[:, None]
    see_all_but_itself = torch.zeros(1, 10, dtype=torch.bool)
    see_all_but_itself[0, 0] = True
    expected, _ = F.multi_head_attention_forward(
        tokens[:1], tokens, tokens, tokens.shape[-1], pool.num_heads,
        None, torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        None, None, False, 0.0, pool.c_proj.weight, pool.c_proj.bias, False,
        attn_mask=see_all_but_itself, use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )  # fmt: skip
    torch.testing.assert_close(everything, expected[0, 0], rtol=1e-4, atol=1e-5)
    own = pool(clip_map)[0]
    assert F.cosine_similarity(everything, own, dim=0) > 0.9


@torch.no_grad()
def test_a_resnet_mask_without_a_cell_sees_nothing_and_others_do_not_notice(resnet) -> None:
    clip_map = torch.randn(1, resnet.channels[-1], 4, 4)
    mask_logits = torch.randn(1, 3, 4, 4)
    mask_logits[0, 1] = -1.0
    embeddings = resnet.embed_regions(clip_map, mask_logits)
    torch.testing.assert_close(embeddings[0, 1], resnet.model.visual.attnpool.c_proj.bias)
    alone = resnet.embed_regions(clip_map, mask_logits[:, ::2])
    torch.testing.assert_close(embeddings[:, ::2], alone)


@torch.no_grad()
def test_resnet_levels_have_strides_4_to_32_and_lead_to_clips_own_embedding(resnet) -> None:
    images = torch.randn(2, 3, 96, 96)
    features = resnet(images)
    assert [tuple(level.shape[-2:]) for level in features.levels] == [
        (24, 24), (12, 12), (6, 6), (3, 3)
    ]  # fmt: skip
    assert tuple(level.shape[1] for level in features.levels) == resnet.channels
    pooled = resnet.model.visual.attnpool(features.clip_map)
    torch.testing.assert_close(pooled, resnet.model.encode_image(images))


@pytest.fixture(scope="module")
def convnext() -> ClipTower:
    torch.manual_seed(0)
    vision = {
        "timm_model_name": "test_convnext", "timm_model_pretrained": False, "timm_pool": "",
        "timm_proj": "linear", "image_size": 64,
    }  # fmt: skip
    assert timm.is_model("test_convnext")
    model = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=TEXT)
    tokenize = open_clip.SimpleTokenizer(context_length=12)
    return clip_tower(model, tokenize=tokenize, name="a small ConvNeXt")


@torch.no_grad()
def test_pooling_the_whole_convnext_map_gives_clips_own_image_embedding(convnext) -> None:
    images = torch.randn(2, 3, 64, 96)
    features = convnext(images)
    whole = convnext.embed_regions(features.clip_map, torch.ones(2, 1, 8, 12))
    expected = convnext.model.visual.trunk.forward_head(
        features.clip_map.mean((2, 3), keepdim=True)
    )
    torch.testing.assert_close(whole[:, 0], convnext.model.visual.head(expected))


@torch.no_grad()
def test_a_convnext_mask_embeds_what_lies_under_it_alone(convnext) -> None:
    clip_map = convnext(torch.randn(1, 3, 64, 64)).clip_map
    left = torch.full((1, 1, 2, 2), -1.0)
    left[..., 0] = 1.0
    changed = clip_map.clone()
    changed[..., 1] += 5.0
    torch.testing.assert_close(
        convnext.embed_regions(clip_map, left), convnext.embed_regions(changed, left)
    )


def test_towers_are_chosen_by_their_image_encoder(resnet, convnext) -> None:
    assert isinstance(resnet, ResNetClip)
    assert isinstance(convnext, ConvNeXtClip)


def test_a_tower_never_leaves_eval_mode_and_holds_no_gradient(resnet) -> None:
    resnet.train()
    assert not any(module.training for module in resnet.modules())
    assert not any(parameter.requires_grad for parameter in resnet.parameters())


def test_prompts_are_encoded_alike_alone_and_in_batches(resnet, monkeypatch) -> None:
    prompts = ["a cat", "a photo of a dog", "grass"]
    together = resnet.encode_text(prompts)
    monkeypatch.setattr("frozenseg.towers.clip.TEXT_BATCH", 2)
    torch.testing.assert_close(resnet.encode_text(prompts), together)
    torch.testing.assert_close(resnet.encode_text(prompts[:1]), together[:1])


def test_clips_temperature_is_clamped_at_100(resnet) -> None:
    with torch.no_grad():
        resnet.model.logit_scale.fill_(4.7)
    assert resnet.logit_scale.item() == pytest.approx(100.0)
