"""Colours are fixed and distinct, also for colour-blind readers."""

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


def test_colours_of_classes_are_fixed():
    assert class_color(0) == (0x56, 0xB4, 0xE9)  # Okabe and Ito's sky blue
    assert class_color(14) == (0xCC, 0x66, 0x77)  # Tol's rose, the last curated colour


def test_first_generated_colour_is_oklch_of_hue_zero():
    # Lightness 0.72, a = 0.13, b = 0. Cone responses: 0.771524, 0.706277, 0.708367, each cubed.
    # Linear sRGB: 0.788996, 0.215594, 0.357218. Gamma: 1.055 * x^(1/2.4) - 0.055, times 255.
    assert class_color(15) == (230, 128, 161)


def test_second_generated_colour_is_darker_and_a_golden_angle_on():
    # Lightness 0.50, hue 137.5 degrees: a = -0.09586, b = 0.08781, a dark green.
    assert class_color(16) == (59, 115, 32)


def test_first_seven_stay_apart_for_a_deuteranope():
    linear = (np.array([class_color(index) for index in range(7)]) / 255) ** 2.2
    seen = np.clip(linear @ DEUTERANOPE.T, 0, 1) ** (1 / 2.2)
    distances = [np.linalg.norm(first - second) for first, second in combinations(seen, 2)]
    assert min(distances) > 0.1


def test_neighbours_beyond_the_curated_colours_differ_in_lightness():
    weights = np.array([0.2126, 0.7152, 0.0722])
    lightness = [np.array(class_color(index)) @ weights for index in range(15, 60)]
    assert np.abs(np.diff(lightness)).min() > 15
