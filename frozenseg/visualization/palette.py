"""One colour per class: the same in every run, told apart by colour-blind readers too."""

from math import cos, pi, sin

Color = tuple[int, int, int]

# Okabe and Ito's set without black, then Paul Tol's muted set without what is there already.
_CURATED = (
    *("56b4e9", "e69f00", "009e73", "cc79a7", "f0e442", "0072b2", "d55e00"),
    *("aa4499", "44aa99", "882255", "999933", "332288", "ddcc77", "117733", "cc6677"),
)
_LIGHTNESS = (0.72, 0.50, 0.84, 0.61)  # neighbours differ in lightness, which every eye sees
_CHROMA = 0.13
_GOLDEN_ANGLE = pi * (3 - 5**0.5)


def class_color(index: int) -> Color:
    """The colour of the class with this number, RGB in 0..255.

    A curated set first; beyond it, hues a golden angle apart at four lightnesses.
    """
    if index < len(_CURATED):
        red, green, blue = bytes.fromhex(_CURATED[index])
        return red, green, blue
    step = index - len(_CURATED)
    return _from_oklch(_LIGHTNESS[step % len(_LIGHTNESS)], _CHROMA, step * _GOLDEN_ANGLE)


def _from_oklch(lightness: float, chroma: float, hue: float) -> Color:
    """Oklab in polar form to sRGB (B. Ottosson, 2020), clipped to what a screen shows."""
    a, b = chroma * cos(hue), chroma * sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _to_byte(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _to_byte(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _to_byte(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def _to_byte(linear: float) -> int:
    clipped = min(1.0, max(0.0, linear))
    encoded = 12.92 * clipped if clipped <= 0.0031308 else 1.055 * clipped ** (1 / 2.4) - 0.055
    return round(255 * encoded)
