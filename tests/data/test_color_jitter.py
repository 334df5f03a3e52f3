import colorsys

import numpy as np
import pytest
import torch

from frozenseg.data.color_jitter import ColorJitter


class Scripted:
    """Stands for a generator: every change is drawn at its largest, and coins fall as told."""

    def __init__(self, *coins: bool) -> None:
        self.coins = iter(coins)

    def uniform(self, low: float, high: float) -> float:
        return high

    def random(self) -> float:
        return 0.25 if next(self.coins) else 0.75


def changed(pixel: tuple[int, int, int], *coins: bool) -> list[int]:
    """Coins: brightness, contrast, saturation, hue, contrast before the colours."""
    image = torch.tensor(pixel, dtype=torch.uint8)[:, None, None].expand(3, 2, 2)
    result = ColorJitter()(image, Scripted(*coins))
    assert result.shape == (3, 2, 2) and result.dtype == torch.uint8
    return result[:, 0, 0].tolist()


def test_brightness_shifts_and_contrast_multiplies_and_both_clip() -> None:
    assert changed((10, 100, 240), True, False, False, False, False) == [42, 132, 255]
    assert changed((10, 100, 240), False, True, False, False, False) == [15, 150, 255]
    assert changed((10, 100, 240), True, True, False, False, True) == [63, 198, 255]
    assert changed((10, 100, 240), False, False, False, False, False) == [10, 100, 240]


def test_saturation_and_hue_are_those_of_the_hsv_cone() -> None:
    red, green, blue = (value / 255 for value in (100, 80, 80))
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    for coins, expected in (
        ((True, False), (hue, saturation * 1.5, value)),
        ((False, True), (hue + 0.1, saturation, value)),  # 36 of 360 degrees
    ):
        wanted = [255 * channel for channel in colorsys.hsv_to_rgb(*expected)]
        got = changed((100, 80, 80), False, False, *coins, False)
        assert got == pytest.approx(wanted, abs=1.5)


def test_contrast_comes_before_or_after_the_colours() -> None:
    before = changed((200, 20, 20), False, True, True, False, True)
    after = changed((200, 20, 20), False, True, True, False, False)
    assert before == [255, 0, 0]  # clipped to (255, 30, 30), then more saturated
    assert after == [255, 0, 0]
    before = changed((200, 120, 120), False, True, True, False, True)
    after = changed((200, 120, 120), False, True, True, False, False)
    assert before != after


def test_half_of_all_images_keep_their_brightness() -> None:
    image = torch.full((3, 1, 1), 100, dtype=torch.uint8)
    jitter = ColorJitter(contrast=(1.0, 1.0), saturation=(1.0, 1.0), hue_degrees=0.0)
    generator = np.random.default_rng(0)
    values = [int(jitter(image, generator)[0, 0, 0]) for _ in range(2000)]
    assert sum(value == 100 for value in values) == pytest.approx(1000, abs=120)
    assert min(values) >= 68 and max(values) <= 132 and min(values) < 72 and max(values) > 128
