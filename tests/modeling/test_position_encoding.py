import math

import pytest
import torch

from frozenseg.modeling.position_encoding import sine_positions


def expected(channel: int, row: int, column: int, *, height: int, width: int, dim: int) -> float:
    """DETR's formula for one number: rows in the first half, sines and cosines in turn."""
    half = dim // 2
    place, length = (row, height) if channel < half else (column, width)
    index = channel % half
    angle = (place + 1) / (length + 1e-6) * 2 * math.pi / 10000 ** (2 * (index // 2) / half)
    return math.sin(angle) if index % 2 == 0 else math.cos(angle)


@pytest.mark.parametrize("size", [(3, 5), (1, 1), (4, 2)])
def test_every_number_is_detrs(size: tuple[int, int]) -> None:
    height, width = size
    positions = sine_positions(torch.zeros(2, 8, height, width))
    assert positions.shape == (1, 8, height, width)
    for channel in range(8):
        for row in range(height):
            for column in range(width):
                wanted = expected(channel, row, column, height=height, width=width, dim=8)
                assert positions[0, channel, row, column].item() == pytest.approx(wanted, abs=1e-5)


def test_the_last_cell_is_at_the_same_place_in_maps_of_any_size() -> None:
    small, large = (sine_positions(torch.zeros(1, 64, side, side)) for side in (4, 31))
    torch.testing.assert_close(small[..., -1, -1], large[..., -1, -1], rtol=0, atol=1e-4)


def test_positions_take_the_type_of_the_map() -> None:
    assert sine_positions(torch.zeros(1, 8, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
