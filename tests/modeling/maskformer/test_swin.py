"""Swin against timm's, against attention token by token, and against a hand-made mask."""

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer as TimmSwin

from frozenseg.modeling.maskformer.swin import (
    BLOCKED,
    PatchMerging,
    SwinBlock,
    SwinTransformer,
    map_of_windows,
    relative_position_index,
    shift_bias,
    windows_of,
)

TINY = {"dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4), "window": 4}


def tiny(**changes) -> SwinTransformer:
    torch.manual_seed(0)
    return SwinTransformer(**(TINY | changes)).eval()


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (96, 160)])
def test_outputs_are_at_strides_4_to_32(size: tuple[int, int]) -> None:
    levels = tiny()(torch.rand(2, 3, *size))
    assert [tuple(level.shape) for level in levels] == [
        (2, 8 * 2**index, size[0] // 4 // 2**index, size[1] // 4 // 2**index) for index in range(4)
    ]


def test_timms_swin_agrees_where_windows_fit() -> None:
    """timm pads after shifting, so all four maps of this image are multiples of the window."""
    own = tiny()
    reference = TimmSwin(
        img_size=128,
        embed_dim=8,
        depths=TINY["depths"],
        num_heads=TINY["num_heads"],
        window_size=4,
        always_partition=True,
        strict_img_size=False,
        drop_path_rate=0.0,
        num_classes=0,
    ).eval()
    state = {}
    for name, value in own.state_dict().items():
        kind, index, *rest = name.split(".")
        if kind == "layers" and rest[0] == "downsample":  # timm's belongs to the stage after it
            name = ".".join([kind, str(int(index) + 1), *rest])
        if name.startswith("norm"):
            if not name.startswith("norm3"):
                continue
            name = name.replace("norm3", "norm")
        state[name] = value
    reference.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 128, 128)
    for index, (level, theirs) in enumerate(
        zip(
            own(images),
            reference.forward_intermediates(images, intermediates_only=True),
            strict=True,
        )
    ):
        norm = own.get_submodule(f"norm{index}")
        expected = norm(theirs.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-5)


def test_a_shifted_block_is_attention_among_the_tokens_of_a_shifted_grid() -> None:
    """Token by token on a map of 6 x 5 cells, padded to 8 x 8, with windows of 4 shifted by 2.

    The grid of the windows begins at -2: cells belong together if their shifted window is the same.
    Padded cells are zeros, whose keys are the bias of the projection alone.
    """
    torch.manual_seed(1)
    block = SwinBlock(dim=8, num_heads=2, window=4, shift=2, drop_path_rate=0.0).eval()
    features = torch.randn(1, 6, 5, 8)
    padded = torch.zeros(8, 8, 8)
    padded[:6, :5] = block.norm1(features)[0]
    query, key, value = block.attn.qkv(padded).unflatten(-1, (3, 2, 4)).unbind(2)
    table = block.attn.relative_position_bias_table.unflatten(0, (7, 7))
    expected = torch.zeros(6, 5, 8)
    for row in range(6):
        for column in range(5):
            cells = [
                (r, c)
                for r in range(8)
                for c in range(8)
                if ((r + 2) // 4, (c + 2) // 4) == ((row + 2) // 4, (column + 2) // 4)
            ]
            rows, columns = (torch.tensor(side) for side in zip(*cells, strict=True))
            bias = table[row - rows + 3, column - columns + 3]  # (cells, heads)
            logits = (query[row, column] * key[rows, columns]).sum(-1) / 2 + bias
            weights = logits.softmax(dim=0)[..., None]
            expected[row, column] = (weights * value[rows, columns]).sum(0).flatten()
    attended = features + block.attn.proj(expected)[None]
    expected = attended + block.mlp(block.norm2(attended))
    torch.testing.assert_close(block(features, shift_bias(features, 4)), expected)


def test_tokens_that_the_shift_brings_together_are_blocked() -> None:
    bias = shift_bias(torch.zeros(1, 4, 4, 1), 4)[0]  # one window of the whole map, shifted by 2
    corner = (torch.arange(16) // 8 * 2 + torch.arange(16) % 4 // 2)[:, None]
    assert torch.equal(bias, torch.where(corner == corner.T, 0.0, BLOCKED))


def test_relative_positions_of_a_window_of_two() -> None:
    assert relative_position_index(2).tolist() == [
        [4, 3, 1, 0],
        [5, 4, 2, 1],
        [7, 6, 4, 3],
        [8, 7, 5, 4],
    ]


def test_windows_are_taken_row_by_row_and_put_back() -> None:
    cells = torch.arange(24).reshape(1, 4, 6, 1)
    windows = windows_of(cells, 2)
    assert windows[0, :, :, 0].tolist()[:2] == [[0, 1, 6, 7], [2, 3, 8, 9]]
    assert torch.equal(map_of_windows(windows, cells.shape[1:3], 2), cells)


def test_merging_pads_odd_sides() -> None:
    assert PatchMerging(8)(torch.rand(1, 5, 3, 8)).shape == (1, 3, 2, 16)


def test_branches_are_skipped_more_often_the_deeper_they_are() -> None:
    model = tiny(drop_path_rate=0.35)
    rates = [block.drop_path.drop_prob for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0.05 * index for index in range(8)])
