"""Id maps are painted alike in strips of any height, with a line between segments at any size."""

import numpy as np
import pytest
from PIL import Image

from frozenseg.visualization import painting

RED_BLUE = {1: (255, 0, 0), 2: (0, 0, 255)}


def noise(height: int, width: int) -> Image.Image:
    drawn = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


def halves(height: int, width: int) -> np.ndarray:
    ids = np.ones((height, width), dtype=np.int32)
    ids[:, width // 2 :] = 2
    return ids


@pytest.mark.parametrize("void", [painting.hatched, painting.dimmed])
def test_a_picture_does_not_depend_on_the_height_of_strips(monkeypatch, void) -> None:
    ids = halves(90, 70)
    ids[20:60, 10:50] = 0
    pictures = []
    for pixels in (1, 700, 1 << 20):  # one row, ten rows, the whole picture
        monkeypatch.setattr(painting, "_STRIP_PIXELS", pixels)
        pictures.append(painting.paint(noise(90, 70), ids, RED_BLUE, alpha=0.6, void=void))
    assert pictures[0].tobytes() == pictures[1].tobytes() == pictures[2].tobytes()


@pytest.mark.parametrize("size", [(96, 128), (427, 640), (900, 1200), (2000, 3000)])
def test_a_white_line_between_segments_grows_with_the_picture(size: tuple[int, int]) -> None:
    grey = Image.new("RGB", size[::-1], (128, 128, 128))
    painted = painting.paint(grey, halves(*size), RED_BLUE, alpha=0.6, void=painting.hatched)
    row = np.asarray(painted)[size[0] // 2].astype(int)
    (bright,) = np.nonzero(row.min(axis=-1) > 180)
    assert abs(bright.mean() - (size[1] / 2 - 0.5)) < 1
    assert 2 <= len(bright) <= 3 + size[0] / 200
    assert len(bright) >= size[0] / 450
    assert (row[: size[1] // 4, 0] > row[: size[1] // 4, 2]).all()


def test_colours_are_mixed_as_the_opacity_says() -> None:
    painted = painting.paint(
        noise(8, 8), np.ones((8, 8), int), RED_BLUE, alpha=0.25, void=painting.hatched
    )
    pixels = np.asarray(noise(8, 8)).astype(float)
    faded = (pixels + pixels.mean(axis=-1, keepdims=True)) / 2
    expected = 0.75 * faded + 0.25 * np.array([255, 0, 0])
    assert np.abs(np.asarray(painted) - expected).max() <= 0.51
