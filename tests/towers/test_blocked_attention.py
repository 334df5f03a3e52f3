import copy
from typing import Any

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from frozenseg.towers import blocked_attention
from frozenseg.towers.blocked_attention import BlockedAttention, block_attention
from frozenseg.towers.tiny_vit import TinyVit

CELLS = 8  # on each side of the map


@pytest.fixture
def encoder() -> ImageEncoderViT:
    """One block of 3 x 3 windows, which pad the map, and one global block."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=32,
        patch_size=4,
        embed_dim=24,
        depth=2,
        num_heads=3,
        out_chans=8,
        use_rel_pos=True,
        window_size=3,
        global_attn_indexes=(1,),
    )
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return encoder.eval().requires_grad_(False)


@pytest.mark.parametrize("budget", [1, 200, 4000, 2**20])
def test_blocks_of_any_size_give_the_embedding_of_segment_anything(
    encoder: ImageEncoderViT, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked_attention, "SCORES_PER_THREAD", budget)
    images = torch.randn(2, 3, 32, 32)
    expected = encoder(images)
    block_attention(encoder)
    torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-5)


def test_maps_of_other_sizes_resize_the_relative_positions(encoder: ImageEncoderViT) -> None:
    original = attention_of(encoder, 1)
    blocked = BlockedAttention(original, window=0)
    features = torch.randn(1, 5, CELLS + 2, 24)
    torch.testing.assert_close(blocked(features), original(features), rtol=1e-4, atol=1e-5)


def test_no_array_of_tokens_x_tokens_is_held(
    encoder: ImageEncoderViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked_attention, "SCORES_PER_THREAD", 1)
    images, pairs_of_tokens = torch.randn(1, 3, 32, 32), CELLS**4
    with _Largest() as before:
        encoder(images)
    block_attention(encoder)
    with _Largest() as after:
        encoder(images)
    assert before.numel >= 3 * pairs_of_tokens  # of three heads
    assert after.numel < 2 * pairs_of_tokens  # the widest map of features, 64 x 96


def test_the_weights_keep_their_names_and_load_as_before(encoder: ImageEncoderViT) -> None:
    published = copy.deepcopy(encoder.state_dict())
    block_attention(encoder)
    assert list(encoder.state_dict()) == list(published)
    images = torch.randn(1, 3, 32, 32)
    first = encoder(images)
    published["blocks.1.attn.rel_pos_h"] += 1
    encoder.load_state_dict(published)
    assert not torch.allclose(encoder(images), first)


def test_gradients_are_those_of_segment_anything(encoder: ImageEncoderViT) -> None:
    original = attention_of(encoder, 0).requires_grad_(True)
    features = torch.randn(1, 3, 3, 24)
    wanted = torch.autograd.grad(original(features).square().sum(), list(original.parameters()))
    blocked = BlockedAttention(original, window=3)
    found = torch.autograd.grad(blocked(features).square().sum(), list(blocked.parameters()))
    by_name = dict(zip(dict(blocked.named_parameters()), found, strict=True))
    for name, value in zip(dict(original.named_parameters()), wanted, strict=True):
        torch.testing.assert_close(by_name[name], value, rtol=1e-4, atol=1e-4)


def test_encoders_without_relative_positions_are_left_alone() -> None:
    plain = ImageEncoderViT(img_size=16, patch_size=4, embed_dim=8, depth=1, num_heads=2)
    for encoder in (plain, TinyVit(depths=(1, 1, 1, 1), image_size=64)):
        modules = list(encoder.modules())
        block_attention(encoder)
        assert list(encoder.modules()) == modules


def attention_of(encoder: ImageEncoderViT, block: int) -> Attention:
    attention = encoder.blocks[block].attn
    assert isinstance(attention, Attention)
    return attention


class _Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operator returned."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, Tensor):
                self.numel = max(self.numel, each.numel())
        return result
