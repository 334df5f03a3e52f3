"""MAFT+'s text transfer by hand and against PyTorch's own attention."""

import pytest
import torch
from torch import Tensor, nn

from frozenseg.modeling.text_transfer import ContentTransfer, TextTransfer


class Doubling(nn.Module):
    """A tower whose head doubles every vector."""

    def embed_features(self, features: Tensor) -> Tensor:
        return 2 * features


@pytest.mark.parametrize(("width", "count"), [(768, 2_954_496), (640, 2_052_480)])
def test_the_published_sizes_have_the_published_number_of_parameters(width, count) -> None:
    with torch.device("meta"):
        network = TextTransfer(dim=width)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_the_scrambled_map_reads_memory_in_rows_of_channels() -> None:
    # C = 2 channels of 1 x 3 cells lie in memory as 0 1 2 | 10 11 12
    clip_map = torch.tensor([[[[0.0, 1, 2]], [[10.0, 11, 12]]]])
    straight = ContentTransfer(clip=Doubling(), network=nn.Identity())
    scrambled = ContentTransfer(clip=Doubling(), network=nn.Identity(), scrambled=True)
    assert straight.image_map(clip_map).tolist() == [[[[0, 2, 4]], [[20, 22, 24]]]]
    # rows (0, 1), (2, 10), (11, 12), doubled, are the three cells
    assert scrambled.image_map(clip_map).tolist() == [[[[0, 4, 22]], [[2, 20, 24]]]]


def positions(dim: int, height: int, width: int) -> Tensor:
    """Sine and cosine in turns, the first half of the channels for the row, written out."""
    code = torch.zeros(dim, height, width)
    half = dim // 2
    for channel in range(dim):
        index = channel % half
        for y in range(height):
            for x in range(width):
                place, last = (y, height) if channel < half else (x, width)
                angle = (
                    (place + 1) / (last + 1e-6) * 2 * torch.pi / 10000 ** (2 * (index // 2) / half)
                )
                wave = torch.tensor(angle).sin() if index % 2 == 0 else torch.tensor(angle).cos()
                code[channel, y, x] = wave
    return code


@pytest.mark.parametrize("form", ["semantic", "panoptic"])
def test_it_is_pytorchs_attention_over_cells_with_positions(form) -> None:
    network = TextTransfer(dim=8, num_heads=2, form=form)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    rows, image_map = torch.randn(5, 8), torch.randn(1, 8, 2, 3)
    reference = nn.MultiheadAttention(8, 2, batch_first=True)
    attention = network.attention
    reference.load_state_dict(
        {
            "in_proj_weight": attention.in_proj.weight,
            "in_proj_bias": attention.in_proj.bias,
            "out_proj.weight": attention.out_proj.weight,
            "out_proj.bias": attention.out_proj.bias,
        }
    )
    cells = image_map[0].flatten(1).T[None]
    keys = cells + positions(8, 2, 3).flatten(1).T
    change = network.mlp(reference(rows[None], keys, cells)[0][0])
    norm = nn.functional.layer_norm
    expected = {
        "semantic": lambda: norm(rows + change, (8,), network.norm.weight, network.norm.bias),
        "panoptic": lambda: rows + norm(change, (8,), network.norm.weight, network.norm.bias),
    }
    torch.testing.assert_close(network(rows, image_map), expected[form](), rtol=1e-4, atol=1e-5)


def test_the_panoptic_form_starts_as_no_change() -> None:
    rows = torch.randn(3, 8)
    network = TextTransfer(dim=8, num_heads=2, form="panoptic")
    assert torch.equal(network(rows, torch.randn(1, 8, 2, 2)), rows)
