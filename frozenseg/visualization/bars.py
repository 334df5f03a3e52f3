"""Bar charts of scores."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from frozenseg.visualization.labels import font
from frozenseg.visualization.palette import class_color

_WIDTH, _HEIGHT = 1600, 800  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 190, 80  # margins
_TITLE, _TEXT = 34, 24  # font sizes
_INK, _PALE, _FAINT = (40, 44, 52), (96, 102, 112), (226, 229, 234)
_MAXIMUM = 100.0  # percent
_BAR_SHARE = 0.82  # of a group's width


def draw_bars(
    scores: Mapping[str, Mapping[str, float]], *, title: str, subtitle: str = ""
) -> Image.Image:
    """Draws one group of bars per measure, with one bar per variant.

    Args:
        scores: percent, by variant and measure; all variants have the same measures.
        title: heading.
        subtitle: second line of the heading.
    """
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_LEFT, 46), title, font=font(_TITLE), fill=_INK, anchor="lm")
    draw.text((_LEFT, 88), subtitle, font=font(_TEXT), fill=_PALE, anchor="lm")
    _draw_legend(draw, list(scores))
    for percent in (0, 25, 50, 75, 100):
        y = _height_of(percent)
        draw.line([(_LEFT, y), (_WIDTH - _RIGHT, y)], fill=_FAINT, width=2)
        draw.text((_LEFT - 14, y), str(percent), font=font(_TEXT), fill=_PALE, anchor="rm")
    measures = list(next(iter(scores.values())))
    step = (_WIDTH - _LEFT - _RIGHT) / len(measures)
    for group, measure in enumerate(measures):
        left = _LEFT + group * step
        _draw_group(draw, [each[measure] for each in scores.values()], left, step)
        middle = (left + step / 2, _HEIGHT - _BOTTOM / 2)
        draw.text(middle, measure, font=font(_TEXT), fill=_INK, anchor="mm")
    draw.line([(_LEFT, _height_of(0)), (_WIDTH - _RIGHT, _height_of(0))], fill=_INK, width=2)
    return picture


def _draw_group(
    draw: ImageDraw.ImageDraw, values: Sequence[float], left: float, step: float
) -> None:
    width = min(step * _BAR_SHARE / len(values), 90.0)
    left += (step - width * len(values)) / 2
    for index, value in enumerate(values):
        x, y = left + index * width, _height_of(value)
        draw.rectangle((x + 2, y, x + width - 2, _height_of(0)), fill=class_color(index))
        size = min(_TEXT, round(width * 0.4))
        draw.text((x + width / 2, y - 6), f"{value:.1f}", font=font(size), fill=_INK, anchor="ms")


def _draw_legend(draw: ImageDraw.ImageDraw, names: Sequence[str]) -> None:
    x, y = float(_LEFT), 134
    for index, name in enumerate(names):
        draw.rectangle((x, y - 12, x + 24, y + 12), fill=class_color(index))
        draw.text((x + 34, y), name, font=font(_TEXT), fill=_INK, anchor="lm")
        x += 34 + draw.textlength(name, font=font(_TEXT)) + 44


def _height_of(percent: float) -> float:
    """The y coordinate of the top of a bar, pixels."""
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * percent / _MAXIMUM
