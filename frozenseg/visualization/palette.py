"""A fixed colour per class, distinguishable for colour-blind readers."""

from math import cos, pi, sin

Color = tuple[int, int, int]

# Okabe and Ito's set without black, then Paul Tol's muted set without near duplicates.
_CURATED = (
    *("56b4e9", "e69f00", "009e73", "cc79a7", "f0e442", "0072b2", "d55e00"),
    *("aa4499", "44aa99", "882255", "999933", "332288", "ddcc77", "117733", "cc6677"),
)
_LIGHTNESS = (
    0.72,
    0.50,
    0.84,
    0.61,
)  # consecutive classes differ in lightness
_CHROMA = 0.13
_GOLDEN_ANGLE = pi * (3 - 5**0.5)


def class_color(index: int) -> Color:
    """The RGB colour of a class id, 0..255.

    The first classes use a curated set; all others have hues a golden angle apart.
    """
    if index < len(_CURATED):
        red, green, blue = bytes.fromhex(_CURATED[index])
        return red, green, blue
    step = index - len(_CURATED)
    return _from_oklch(_LIGHTNESS[step % len(_LIGHTNESS)], _CHROMA, step * _GOLDEN_ANGLE)


def _from_oklch(lightness: float, chroma: float, hue: float) -> Color:
    """Converts polar Oklab to sRGB (B. Ottosson, 2020), clipped to the gamut."""
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
