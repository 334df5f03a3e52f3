import pytest
import torch
from torch import nn

from frozenseg.modeling.injectors import FeatureInjector, QueryInjector
from frozenseg.modeling.layers import Attention, FeedForward, Mlp, map_of, tokens_of
from frozenseg.ops.mask_pooling import mask_pool


def pytorch_twin(attention: Attention, dim: int) -> nn.MultiheadAttention:
    twin = nn.MultiheadAttention(dim, attention.num_heads, batch_first=True)
    twin.in_proj_weight = attention.in_proj.weight
    twin.in_proj_bias = attention.in_proj.bias
    twin.out_proj.weight, twin.out_proj.bias = attention.out_proj.weight, attention.out_proj.bias
    return twin


@pytest.mark.parametrize("masked", [True, False])
def test_attention_equals_pytorchs(masked: bool) -> None:
    attention = Attention(dim=16, num_heads=4)
    nn.init.normal_(attention.in_proj.bias)
    query, key, value = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    blocked = (torch.rand(2, 3, 5) > 0.6) if masked else None
    if masked:
        blocked[..., 0] = False
    per_head = None if blocked is None else blocked.repeat_interleave(4, dim=0)
    expected, _ = pytorch_twin(attention, 16)(query, key, value, attn_mask=per_head)
    ours = attention(query, key, value, blocked=blocked)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_blocked_keys_have_no_say() -> None:
    attention = Attention(dim=8, num_heads=2)
    query, keys = torch.randn(1, 2, 8), torch.randn(1, 3, 8)
    blocked = torch.tensor([[[False, True, True], [False, False, True]]])
    before = attention(query, keys, keys, blocked=blocked)
    changed = keys.clone()
    changed[0, 1] += 3
    after = attention(query, changed, changed, blocked=blocked)
    torch.testing.assert_close(before[0, 0], after[0, 0])
    assert (before[0, 1] - after[0, 1]).abs().max() > 1e-3


def test_feed_forward_normalises_after_the_residual() -> None:
    block = FeedForward(dim=4, hidden_dim=8)
    nn.init.zeros_(block.linear2.weight)
    nn.init.zeros_(block.linear2.bias)
    tokens = torch.randn(2, 3, 4)
    torch.testing.assert_close(block(tokens), nn.functional.layer_norm(tokens, (4,)))


def test_a_perceptron_has_no_activation_at_its_end() -> None:
    layers = Mlp(dims=(4, 8, 8, 2))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_tokens_run_row_by_row_and_come_back() -> None:
    feature_map = torch.arange(12.0).view(1, 2, 2, 3)
    assert tokens_of(feature_map)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(map_of(tokens_of(feature_map), (2, 3)), feature_map)


def test_the_query_injector_adds_what_sam_sees_under_the_mask() -> None:
    project = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))
    inject = QueryInjector(project=project)
    queries, sam, logits = torch.randn(2, 3, 8), torch.randn(2, 8, 4, 4), torch.randn(2, 3, 6, 6)
    expected = queries + project(mask_pool(sam, logits))
    torch.testing.assert_close(inject(queries, logits, sam), expected)


def test_an_empty_mask_injects_the_projection_of_zero() -> None:
    project = nn.Linear(8, 8)
    inject = QueryInjector(project=project)
    queries = torch.zeros(1, 1, 8)
    injected = inject(queries, torch.full((1, 1, 4, 4), -1.0), torch.randn(1, 8, 4, 4))
    torch.testing.assert_close(injected[0, 0], project.bias)


def test_the_feature_injector_is_attention_to_sam_with_residual_and_norm() -> None:
    inject = FeatureInjector(dim=8, num_heads=2)
    memory, sam, positions = torch.randn(1, 6, 8), torch.randn(1, 6, 8), torch.randn(1, 6, 8)
    attended, _ = pytorch_twin(inject.attention, 8)(memory + positions, sam + positions, sam)
    expected = inject.norm(memory + attended)
    torch.testing.assert_close(inject(memory, sam, positions), expected, rtol=1e-5, atol=1e-6)
