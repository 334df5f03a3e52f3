"""Colours are the same in every run and differ for every eye."""

from itertools import combinations

import numpy as np

from frozenseg.visualization.palette import class_color

# Linear RGB as a deuteranope sees it (Vienot, Brettel and Mollon, 1999)
DEUTERANOPE = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])


def test_first_two_hundred_colours_are_distinct_and_never_black_or_white():
    colors = {class_color(index) for index in range(200)}
    assert len(colors) == 200
    assert all(0 <= channel <= 255 for color in colors for channel in color)
    assert all(60 < sum(color) < 720 for color in colors)


def test_colour_of_a_class_is_fixed():
    assert class_color(0) == (0x56, 0xB4, 0xE9)
    assert class_color(15) == class_color(15)


def test_first_seven_stay_apart_for_a_deuteranope():
    linear = (np.array([class_color(index) for index in range(7)]) / 255) ** 2.2
    seen = np.clip(linear @ DEUTERANOPE.T, 0, 1) ** (1 / 2.2)
    distances = [np.linalg.norm(first - second) for first, second in combinations(seen, 2)]
    assert min(distances) > 0.1


def test_neighbours_beyond_the_curated_colours_differ_in_lightness():
    weights = np.array([0.2126, 0.7152, 0.0722])
    lightness = [np.array(class_color(index)) @ weights for index in range(15, 60)]
    assert np.abs(np.diff(lightness)).min() > 15
