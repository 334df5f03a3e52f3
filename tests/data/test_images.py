"""Pictures of every kind come out as upright RGB bytes; what is none is refused in one sentence."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenseg.data.images import image_size, read_image, read_label_map
from frozenseg.errors import UserError


def rgb_of(picture: Image.Image, path: Path, **options) -> list:
    """The (H, W, 3) values that come back from a file."""
    picture.save(path, **options)
    image = read_image(path)
    assert image.dtype == torch.uint8 and image.is_contiguous()
    return image.permute(1, 2, 0).tolist()


def test_rgb_is_kept_channels_first(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png"), torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(read_image(str(tmp_path / "a.png")), read_image(tmp_path / "a.png"))


def test_grey_and_black_and_white_fill_three_channels(tmp_path: Path) -> None:
    assert rgb_of(Image.new("L", (1, 1), 7), tmp_path / "l.png") == [[[7, 7, 7]]]
    assert rgb_of(Image.new("1", (1, 1), 1), tmp_path / "1.png") == [[[255, 255, 255]]]


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (3, 1))
    picture.putdata([(10, 20, 30, 255), (10, 20, 30, 0), (0, 0, 0, 51)])
    expected = [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    assert rgb_of(picture, tmp_path / "a.png") == expected
    assert rgb_of(Image.new("LA", (1, 1), (9, 0)), tmp_path / "la.png") == [[[255, 255, 255]]]


def test_palettes_are_resolved_with_their_transparency(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([1, 2, 3, 200, 100, 50])
    picture.putdata([0, 1])
    assert rgb_of(picture, tmp_path / "p.png") == [[[1, 2, 3], [200, 100, 50]]]
    transparent = rgb_of(picture, tmp_path / "t.png", transparency=0)
    assert transparent == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize(
    ("value", "byte"), [(0, 0), (255, 1), (257, 1), (32896, 128), (65535, 255)]
)
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, value: int, byte: int) -> None:
    picture = Image.fromarray(np.full((1, 1), value, dtype=np.uint16))
    assert rgb_of(picture, tmp_path / "a.png") == [[[byte] * 3]]
    assert rgb_of(picture, tmp_path / "a.tif") == [[[byte] * 3]]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    assert rgb_of(Image.new("CMYK", (1, 1), (0, 0, 0, 0)), tmp_path / "a.tif") == [[[255] * 3]]
    red = rgb_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=95)[0][0]
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_noted_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    """EXIF orientation o says how to turn the stored picture; the upright one is known here."""
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    assert read_image(path)[0].tolist() == upright.tolist()
    assert image_size(path) == (2, 3)
    assert read_label_map(path).tolist() == stored.tolist()


def test_arrays_tensors_and_pillow_images_are_taken_as_they_are() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    expected = torch.from_numpy(pixels).permute(2, 0, 1)
    for source in (
        pixels,
        pixels.astype(np.float32),
        pixels.astype(np.int64),
        pixels.astype(np.uint16) * 257,
        np.concatenate([pixels, np.full((2, 2, 1), 255, np.uint8)], axis=2),
        Image.fromarray(pixels),
        expected,
        expected.float(),
    ):
        assert torch.equal(read_image(source), expected)
    assert read_image(pixels[..., 0]).shape == (3, 2, 2)
    assert read_image(expected[:1]).shape == (3, 2, 2)
    assert read_image(np.array([[True, False]])).tolist() == [[[255, 0]]] * 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((3, 4, 5), np.uint8), r"shape \(3, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixel"),
        (np.full((2, 2), 0.5), "values from 0.5 to 0.5.*floats from 0 to 255"),
        (np.full((2, 2), -1), "values from -1"),
        (np.full((2, 2), np.nan), "nan"),
        (torch.zeros(2, 4, 4), r"shape \(2, 4, 4\)"),
        (torch.zeros(4, 4), r"shape \(4, 4\)"),
        (Image.new("RGB", (0, 3)), "no pixel"),
        (Path("nowhere.png"), "no image file nowhere.png"),
        (Path("."), "cannot read"),
    ],
)
def test_what_is_no_picture_is_refused(source, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_image(source)


def png_bytes(size: int = 64) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image"),
        (b"<html>404</html>", "not an image"),
        (png_bytes()[:500], "is damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"broken.png.*{message}"):
        read_image(path)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bytes())
    monkeypatch.setenv("FROZENSEG_MAX_PIXELS", "4095")
    with pytest.raises(UserError, match=r"bomb.png has 64 x 64 pixels, more than 0.004095 million"):
        read_image(path)
    monkeypatch.setenv("FROZENSEG_MAX_PIXELS", "4096")
    assert read_image(path).shape == (3, 64, 64)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_maps_keep_their_values(tmp_path: Path, dtype: type) -> None:
    labels = np.array([[0, 1], [200, np.iinfo(dtype).max]], dtype=dtype)
    for suffix in (".png", ".tif"):
        Image.fromarray(labels).save(tmp_path / f"a{suffix}")
        assert read_label_map(tmp_path / f"a{suffix}").tolist() == labels.tolist()


def test_a_palette_label_map_gives_indices(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0] * 255 + [224, 224, 192])
    picture.putdata([3, 255])
    picture.save(tmp_path / "a.png")
    assert read_label_map(tmp_path / "a.png").tolist() == [[3, 255]]
