import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from frozenseg.towers.sam import SamTower
from frozenseg.towers.tiny_vit import TinyVit, _WindowAttention, _WindowBlock, build_sam_vit_t

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def tower(small_model) -> SamTower:
    return small_model().sam


def test_the_whole_batch_is_stretched_to_sams_square(tower: SamTower) -> None:
    images = torch.randn(2, 3, 32, 96)
    embedding = tower(images)
    assert embedding.shape == (2, tower.out_channels, 8, 8)
    square = F.interpolate(images, size=(64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(embedding, tower(square))
    assert torch.equal(embedding, tower.model.image_encoder(square))


def test_the_tower_stays_frozen_and_in_eval_mode(tower: SamTower) -> None:
    tower.train()
    assert not tower.training
    assert not tower(torch.randn(1, 3, 64, 64)).requires_grad


def test_another_weight_is_another_fingerprint(small_model) -> None:
    one, two = small_model().sam, small_model().sam
    assert one.fingerprint == two.fingerprint
    state = {name: value.clone() for name, value in two.model.state_dict().items()}
    state["mask_decoder.iou_token.weight"] += 1
    two.load(state)
    assert one.fingerprint != two.fingerprint


@pytest.mark.golden
def test_the_names_of_vit_t_are_the_published_ones() -> None:
    published = json.loads((GOLDEN / "sam_vit_t.json").read_text())["weights"]
    with torch.device("meta"):
        state = build_sam_vit_t().image_encoder.state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == {
        name: facts["shape"] for name, facts in published.items()
    }


@torch.no_grad()
def test_vit_t_halves_the_map_once_per_stage_but_for_the_last() -> None:
    small = TinyVit(dims=(32, 32, 32, 64), depths=(1, 1, 1, 1), out_channels=16, image_size=64)
    small.eval()
    sizes = []
    features = small.patch_embed(torch.randn(1, 3, 64, 96))
    for layer in small.layers:
        features = layer(features)
        sizes.append(tuple(features.shape[1:]))
    assert sizes == [(32, 8, 12), (32, 4, 6), (64, 4, 6), (64, 4, 6)]
    assert small(torch.randn(1, 3, 64, 96)).shape == (1, 16, 4, 6)


@torch.no_grad()
def test_window_attention_is_attention_with_a_bias_per_distance() -> None:
    attention = _WindowAttention(8, num_heads=2, window_size=3).eval()
    torch.nn.init.normal_(attention.attention_biases)
    tokens = torch.randn(1, 9, 8)
    normed = attention.norm(tokens)[0]
    heads = []
    for head in range(2):  # each head has its query, key and value side by side
        rows = attention.qkv.weight[12 * head : 12 * (head + 1)]
        bias = attention.qkv.bias[12 * head : 12 * (head + 1)]
        query, key, value = (normed @ rows.T + bias).split(4, dim=-1)
        scores = query @ key.T / 2
        for i in range(9):
            for j in range(9):
                distance = abs(i // 3 - j // 3) * 3 + abs(i % 3 - j % 3)
                scores[i, j] += attention.attention_biases[head, distance]
        heads.append(scores.softmax(dim=-1) @ value)
    expected = attention.proj(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(tokens)[0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_windows_do_not_see_each_other_but_their_neighbours_cells() -> None:
    """The depthwise convolution reaches one cell across a window's border, attention none."""
    block = _WindowBlock(8, num_heads=2, window_size=4).eval()
    features = torch.randn(1, 8, 6, 8)  # padded to two rows of two windows
    changed = features.clone()
    changed[..., 4:] += 1
    same = torch.isclose(block(features), block(changed), rtol=1e-4, atol=1e-5).all(dim=1)[0]
    assert same[:, :3].all()
    assert not same[:, 3:].any()
