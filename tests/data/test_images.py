"""Images of every kind become upright RGB bytes; anything else is refused in one sentence."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenseg.data.images import (
    image_files,
    image_size,
    read_colors,
    read_image,
    read_label_map,
    read_photo,
)
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


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_eight_bit_values_in_any_integer_type_keep_their_brightness(dtype: type) -> None:
    values = np.array([[0, 1, 100, 127]], dtype=dtype)
    assert read_image(values)[0].tolist() == [[0, 1, 100, 127]]


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.int64])
def test_the_smallest_range_that_holds_all_values_is_scaled(dtype: type) -> None:
    twelve = np.array([[0, 256, 2048, 4095]], dtype=dtype)
    assert read_image(twelve)[0].tolist() == [[0, 16, 128, 255]]
    if dtype is not np.int16:
        sixteen = np.array([[0, 257, 4096, 32896, 65535]], dtype=dtype)
        assert read_image(sixteen)[0].tolist() == [[0, 1, 16, 128, 255]]


@pytest.mark.parametrize("high", [65536, 2**40])
def test_integers_beyond_sixteen_bits_are_no_image(high: int) -> None:
    with pytest.raises(UserError, match="integers of 8, 12 or 16 bits"):
        read_image(np.array([[0, high]]))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((4, 5), "x"), "values of type <U1"),
        (np.zeros((4, 5), "M8[s]"), "values of type datetime64"),
        (np.zeros((4, 5), complex), "values of type complex128"),
        (np.full((4, 5), None), "values of type object"),
        (None, "type NoneType cannot be read"),
        (torch.zeros(3, 2, 2, device="meta"), "on meta cannot be read"),
        (torch.zeros(3, 2, 2).to_sparse(), "layout torch.sparse_coo"),
        (b"x", "the data is not an image that can be read"),
        (b"", "the data is not an image that can be read"),
        ([], "type list cannot be read"),
        ("~nouser/x.png", "no image file ~nouser/x.png"),
        ("a\0b.png", "is damaged|null byte|no image"),
    ],
)
def test_other_types_are_refused_with_what_is_expected(source, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_image(source)


def test_half_precision_tensors_are_images() -> None:
    values = torch.full((3, 2, 2), 7.0)
    assert read_image(values.bfloat16()).unique().tolist() == [7]
    assert read_image(values.half()).unique().tolist() == [7]


def encoded(kind: str, picture: Image.Image | None = None) -> bytearray:
    buffer = io.BytesIO()
    (picture or Image.new("RGB", (20, 14), (9, 8, 7))).save(buffer, kind)
    return bytearray(buffer.getvalue())


def broken_sgi() -> bytes:
    content = encoded("SGI")
    content[3] = 9
    return bytes(content)


def broken_dds() -> bytes:
    content = encoded("DDS")
    content[80:82] = b"\0\xff"
    return bytes(content)


def bomb_of_text() -> bytes:
    """A PNG with a compressed comment of 80 million characters."""
    content, text = encoded("PNG"), b"zTXta\0\0" + zlib.compress(b"A" * 80_000_000, 9)
    place = content.find(b"IDAT") - 4
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return bytes(content[:place] + chunk + content[place:])


@pytest.mark.parametrize(
    "content",
    [
        b"P6 14\0\0 20 255\n" + bytes(900),  # ValueError of int()
        b"P6 " + b"1" * 50 + b" 20 255\n",  # ValueError of a long token
        broken_sgi(),  # ValueError
        broken_dds(),  # NotImplementedError
        bomb_of_text(),  # ValueError
        bytes(encoded("AVIF")[:-60]),  # RuntimeError
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n",  # would start Ghostscript
    ],
)
def test_whatever_a_decoder_raises_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    for read in (read_image, read_label_map, read_colors):
        with pytest.raises(UserError, match=rf"^{path} .*") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(1, 200), (200, 1)])
def test_pixels_are_counted_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    path = tmp_path / "a.png"
    Image.new("L", size).save(path)
    path.write_bytes(path.read_bytes()[:45])  # the header alone
    monkeypatch.setenv("FROZENSEG_MAX_PIXELS", "199")
    for read in (read_image, image_size, read_label_map):
        with pytest.raises(UserError, match="set FROZENSEG_MAX_PIXELS to at least 200"):
            read(path)
    with pytest.raises(UserError, match="the array has 1 x 200 pixels"):
        read_image(np.zeros((200, 1), np.uint8))


def test_the_bound_may_be_raised_beyond_pillows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setenv("FROZENSEG_MAX_PIXELS", "1600")
    assert read_image(tmp_path / "a.png").shape == (3, 40, 40)


@pytest.mark.parametrize("text", ["many", "0", "-5", "1e9", "9" * 30])
def test_a_bound_that_is_no_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("FROZENSEG_MAX_PIXELS", text)
    with pytest.raises(UserError, match="FROZENSEG_MAX_PIXELS is"):
        read_image(np.zeros((2, 2), np.uint8))


def test_a_photo_may_be_read_as_it_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert read_photo(tmp_path / "a.jpg").pixels.shape == (3, 4, 2)
    stored = read_photo(tmp_path / "a.jpg", upright=False)
    assert stored.pixels.shape == (3, 2, 4) and stored.orientation == 6
    assert image_size(tmp_path / "a.jpg", upright=False) == (2, 4)


def test_one_bit_label_maps_are_grey_or_numbers(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "a.png")
    assert read_label_map(tmp_path / "a.png").tolist() == [[0, 255]]
    assert read_label_map(tmp_path / "a.png", one_bit=1).tolist() == [[0, 1]]


def test_colours_of_palettes_and_grey_are_resolved(tmp_path: Path) -> None:
    colors = np.array([[[10, 2, 0], [44, 1, 3]]], dtype=np.uint8)
    picture = Image.fromarray(colors)
    for name, image in {
        "rgb": picture,
        "palette": picture.quantize(4, dither=Image.Dither.NONE),
        "alpha": Image.merge("RGBA", (*picture.split(), Image.new("L", (2, 1), 0))),
    }.items():
        image.save(tmp_path / f"{name}.png")
        assert read_colors(tmp_path / f"{name}.png").tolist() == colors.tolist()
    Image.new("L", (1, 1), 7).save(tmp_path / "grey.png")
    assert read_colors(tmp_path / "grey.png").tolist() == [[[7, 7, 7]]]
    Image.fromarray(np.zeros((1, 1), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png is not an 8-bit colour image"):
        read_colors(tmp_path / "deep.png")


def test_a_folder_is_listed_by_every_ending_that_is_read(tmp_path: Path) -> None:
    names = ["a.png", "b.avif", "c.jfif", "d.jp2", "e.tga", "f.jpe", "g.JPG", "h.pgm", "i.WebP"]
    others = ["x.HEIC", "y.txt", "z.eps"]
    for name in [*names, *others, ".partial-12345678.png"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found, left_out = image_files(tmp_path)
    assert [path.name for path in found] == names
    assert [path.name for path in left_out] == others


def test_a_thin_image_is_refused_however_few_pixels_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (130_000, 1)).save(tmp_path / "thin.png")
    message = "more than 120,000 along one side: cut it, or set FROZENSEG_MAX_PIXELS to at least"
    with pytest.raises(UserError, match=f"{message} 130000000"):
        read_image(tmp_path / "thin.png")
    monkeypatch.setenv("FROZENSEG_MAX_PIXELS", "130000000")
    assert read_image(tmp_path / "thin.png").shape == (3, 1, 130_000)
    monkeypatch.setenv("FROZENSEG_MAX_PIXELS", "70000")  # a low bound leaves every JPEG its length
    assert read_image(np.zeros((1, 65_535), np.uint8)).shape == (3, 1, 65_535)
