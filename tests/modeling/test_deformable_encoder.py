import pytest
import torch

from frozenseg.modeling import deformable_encoder
from frozenseg.modeling.deformable_encoder import DeformableAttention, DeformableEncoder, MapSizes


def encoder(num_levels: int) -> DeformableEncoder:
    built = DeformableEncoder(
        dim=16, num_layers=2, num_heads=4, num_levels=num_levels, num_points=2, hidden_dim=8
    )
    for layer in built.layers:
        for linear in (layer.attention.sampling_offsets, layer.attention.attention_weights):
            torch.nn.init.normal_(linear.weight, std=0.3)
    return built.eval()


def maps(*sizes: tuple[int, int], images: int = 2) -> list[torch.Tensor]:
    return [torch.randn(images, 16, *size) for size in sizes]


@pytest.mark.parametrize(
    ("num_levels", "sizes"), [(3, [(2, 3), (4, 6), (8, 12)]), (1, [(4, 5)]), (3, [(4, 5)])]
)
def test_maps_keep_their_sizes_and_images_do_not_mix(num_levels: int, sizes) -> None:
    """Also where parameters for three levels are read on one map: each image on its own."""
    encode, levels = encoder(num_levels), maps(*sizes)
    encoded = encode(levels)
    assert [tuple(level.shape) for level in encoded] == [(2, 16, *size) for size in sizes]
    second = encode([level[1:] for level in levels])
    for both, alone in zip(encoded, second, strict=True):
        torch.testing.assert_close(both[1:], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("num_levels", "sizes"), [(2, [(4, 6), (8, 12)]), (3, [(4, 5)])])
def test_tokens_refined_in_runs_equal_those_refined_together(
    num_levels: int, sizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where queries of one map are read again by others."""
    monkeypatch.setattr(deformable_encoder, "TOKENS_PER_THREAD", 7)
    encode, levels = encoder(num_levels), maps(*sizes)
    together = encode(levels)
    with torch.no_grad():
        in_runs = encode(levels)
    for expected, found in zip(together, in_runs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_three_levels_read_on_one_map_give_a_query_head_the_points_of_another() -> None:
    """Of 20 queries with 4 heads, the last head of query 19 reads head 2 of query 6."""
    encode, (level,) = encoder(3), maps((4, 5))
    attention = encode.layers[0].attention
    tokens, places = level.flatten(2).transpose(1, 2), torch.rand(20, 2)
    sizes = MapSizes([(4, 5)], torch.tensor([[4, 5]]))
    before = attention(tokens, places, attention.project(tokens), sizes)
    changed = tokens.clone()
    changed[:, 7:] += 1  # queries from 7 on; nobody reads what they predict
    after = attention(changed, places, attention.project(tokens), sizes)
    torch.testing.assert_close(before, after)
    changed[:, 6] += 1
    after = attention(changed, places, attention.project(tokens), sizes)
    same = torch.isclose(before, after, rtol=1e-4, atol=1e-5).all(dim=-1).all(dim=0)
    assert same.tolist() == [True] * 18 + [False] * 2  # 4 * 18 / 3 = 24 = head 0 of query 6


def test_offsets_start_in_different_directions_at_growing_distances() -> None:
    attention = DeformableAttention(dim=16, num_heads=4, num_levels=2, num_points=3)
    offsets = attention.sampling_offsets.bias.view(4, 2, 3, 2)
    torch.testing.assert_close(offsets[:, 0], offsets[:, 1])
    torch.testing.assert_close(offsets[0, 0], torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))
    torch.testing.assert_close(offsets[1, 0, 0], torch.tensor([0.0, 1.0]), rtol=0, atol=1e-6)
    assert not attention.sampling_offsets.weight.any()
