"""Uploaded bytes: decoded in memory, bounded, turned upright."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from frozenseg.errors import UserError
from frozenseg.web.limits import Limits
from frozenseg.web.uploads import read_upload, reduced


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = BytesIO()
    image.save(content, format=kind, **options)
    return content.getvalue()


def test_a_small_image_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    upload = read_upload(encoded(Image.fromarray(pixels)), Limits())
    np.testing.assert_array_equal(upload.pixels, pixels)
    assert upload.original_size == (20, 30)


def test_a_large_image_is_reduced_and_keeps_its_proportions() -> None:
    upload = read_upload(encoded(Image.new("RGB", (400, 100))), Limits(segmented_pixels=10_000))
    assert upload.pixels.shape == (50, 200, 3)
    assert upload.original_size == (100, 400)


def test_a_line_of_pixels_is_reduced_to_no_less_than_one() -> None:
    assert (
        reduced(np.zeros((1, 5_000, 3), dtype=np.uint8), Limits(segmented_pixels=100)).shape[0] == 1
    )


def test_a_photograph_is_turned_upright() -> None:
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # rotated by a quarter
    assert read_upload(encoded(image, "JPEG", exif=exif), Limits()).original_size == (40, 20)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the image is empty"),
        (b"hello", "the data is not an image"),
        (encoded(Image.new("RGB", (64, 64)))[:60], "the image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is EPS"),
    ],
)
def test_no_image_is_one_sentence_that_names_the_upload(content: bytes, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        read_upload(content, Limits())
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_too_many_pixels_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_image: object) -> None:
        raise AssertionError("the image was decoded")

    content = encoded(Image.new("L", (300, 300)))
    monkeypatch.setattr("frozenseg.web.uploads.read_image", refuse)
    with pytest.raises(UserError, match=r"300 x 300 pixels, more than 0\.01 million"):
        read_upload(content, Limits(upload_pixels=10_000))
