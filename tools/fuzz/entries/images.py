"""Image files, arrays that stand for images, and label maps."""

import io
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

from tools.fuzz.case import Case, Entry, WrongResult
from tools.fuzz.mutate import damaged_bytes

FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P", "RGB"), "BMP": ("1", "L", "P", "RGB"), "PPM": ("1", "L", "RGB", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"),
    "WEBP": ("RGB", "RGBA"), "ICNS": ("RGBA", "P"), "ICO": ("RGBA", "P"), "SGI": ("L", "RGB",
    "RGBA"),
    "TGA": ("L", "P", "RGB", "RGBA"), "PCX": ("1", "L", "P", "RGB"), "IM": ("L", "RGB", "F"),
    "DDS": ("RGB", "RGBA"), "AVIF": ("RGB", "RGBA"), "JPEG2000": ("L", "RGB"), "MPO": ("RGB",),
    "SPIDER": ("F",), "MSP": ("1",), "XBM": ("1",), "QOI": ("RGB", "RGBA"), "EPS": ("RGB",),
    "PDF": ("RGB",),
}  # fmt: skip
SIZES = ((1, 1), (1, 37), (24, 32), (13, 7), (300, 2))


def picture(rng: Random, mode: str, size: tuple[int, int] | None = None) -> Image.Image:
    """Noise of a random or given size (height, width)."""
    height, width = size or rng.choice(SIZES)
    noise = np.random.default_rng(rng.randrange(1 << 30)).integers(
        0, 256, (height, width, 3), np.uint8
    )
    image = Image.fromarray(noise)
    if mode == "I;16":
        return Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    if mode == "LA":
        return image.convert("L").convert("LA")
    return image.convert("L").convert(mode) if mode in ("I", "F") else image.convert(mode)


def encoded(rng: Random) -> bytes:
    """An image file of a random format and mode."""
    form = rng.choice(("PNG", "JPEG", *FORMATS))
    options: dict[str, Any] = {}
    if form == "JPEG" and rng.random() < 0.5:
        exif = Image.Exif()
        exif[0x0112] = rng.choice((0, 1, 3, 5, 6, 8, 9, 65535))
        options["exif"] = exif
    file = io.BytesIO()
    try:
        picture(rng, rng.choice(FORMATS[form])).save(file, form, **options)
    except (OSError, KeyError, ValueError):  # this Pillow cannot write it
        return png(rng, 24, 32)
    return file.getvalue()


def png(rng: Random, height: int, width: int, *, depth: int = 8, color: int = 0) -> bytes:
    """A PNG of zeros written by hand, of any size that its header can name."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)
    row = b"\0" * (1 + (width * channels * depth + 7) // 8)
    pixels = zlib.compress(row * height, 9)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    palette = [_chunk(b"PLTE", bytes(3))] if color == 3 else []
    parts = [_chunk(b"IHDR", header), *palette, _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def image_bytes(rng: Random) -> bytes:
    """An image file: sound, damaged, huge when decoded, or with a huge text."""
    roll = rng.random()
    if roll < 0.15:
        return encoded(rng)
    if roll < 0.18:
        sizes = (
            (1, 30_000_000),
            (20_000, 2_000),
            (1, 178_000_000),
            (9_000, 9_000),
            (60_000, 5_000),
        )
        height, width = rng.choice(sizes)
        return png(rng, height, width, depth=1, color=rng.choice((0, 3)))
    if roll < 0.21:
        text = _chunk(
            rng.choice((b"zTXt", b"iCCP")), b"a\0\0" + zlib.compress(bytes(80_000_000), 1)
        )
        sound = png(rng, 9, 9)
        return sound[:33] + text + sound[33:]
    if roll < 0.24:
        return rng.choice(
            (b"", b"\0", b"<svg/>", b"P6 1 1 1", b"P6 " + b"1" * 60, b"GIF89a", rng.randbytes(500))
        )
    return damaged_bytes(rng, encoded(rng))


def _make_file(rng: Random) -> Case:
    suffix = rng.choice(("png", "jpg", "tif", "xyz"))
    use = rng.choice(("read_image", "read_image", "image_size", "read_label_map"))
    name = rng.choice(("image", "image", "im\x1b[31mage", "[bold]")) + f".{suffix}"
    return Case("image_files", {"use": use, "name": name}, {name: image_bytes(rng)})


def _run_file(arguments: Any, folder: Path) -> None:
    from frozenseg.data import images

    path = folder / arguments["name"]
    found = getattr(images, arguments["use"])(path)
    if arguments["use"] == "read_image" and (found.dtype != torch.uint8 or found.shape[0] != 3):
        raise WrongResult(f"an image was read as {found.dtype} {tuple(found.shape)}")


NUMPY_TYPES = (
    "u1",
    "i1",
    "u2",
    "i2",
    "u4",
    "i4",
    "i8",
    "f2",
    "f4",
    "f8",
    "?",
    "c8",
    "U1",
    "S3",
    "M8[s]",
    "O",
    "V4",
)
TORCH_TYPES = (
    "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "bool",
    "complex64",
    "float8_e4m3fn", "uint16", "quint8",
)  # fmt: skip
PIL_MODES = (
    "1",
    "L",
    "LA",
    "P",
    "RGB",
    "RGBA",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "La",
    "RGBa",
)
FILLS = (0, 1, 127, 255, 256, 65535, -1, 0.5, 1e30, float("nan"), float("inf"))
SHAPES = (
    (4, 5), (4, 5, 3), (3, 4, 5), (1, 4, 5), (4, 5, 4), (4, 5, 1), (4, 5, 2), (0, 5, 3), (4, 0), (5,
    ), (), (1, 3, 4, 5),
    (1, 1), (1, 1, 3), (3, 3, 3), (4, 0, 4), (3, 0, 0), (1, 3000), (2, 1, 3),
)  # fmt: skip
OBJECTS = (
    "None",
    "b'x'",
    "'~nouser/x.png'",
    "''",
    "'a\\0b'",
    "'.'",
    "7",
    "[]",
    "[[1, 2]]",
    "{}",
    "object()",
    "1.5",
)


def _make_array(rng: Random) -> Case:
    kind = rng.choice(("numpy", "numpy", "torch", "torch", "pil", "object"))
    arguments: dict[str, Any] = {
        "kind": kind,
        "shape": list(rng.choice(SHAPES)),
        "fill": rng.choice(FILLS),
    }
    if kind == "numpy":
        arguments |= {
            "type": rng.choice(NUMPY_TYPES),
            "strides": rng.choice(("plain", "plain", "reversed", "broadcast", "readonly")),
        }
    elif kind == "torch":
        arguments |= {
            "type": rng.choice(TORCH_TYPES),
            "form": rng.choice(("plain", "plain", "plain", "meta", "sparse", "grad", "conj")),
        }
    elif kind == "pil":
        arguments |= {
            "type": rng.choice(PIL_MODES),
            "state": rng.choice(("plain", "plain", "closed", "transparent")),
        }
    else:
        arguments["type"] = rng.choice(OBJECTS)
    return Case("image_arrays", arguments)


def _run_array(arguments: Any, _: Path) -> None:
    from frozenseg.data.images import read_image

    makers = {"numpy": _numpy, "torch": _torch, "pil": _pil, "object": lambda a: eval(a["type"])}
    try:
        value = makers[arguments["kind"]](arguments)
    except Exception:  # there is no such value; the project has nothing to do with it
        return
    image = read_image(value)
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise WrongResult(f"an array was read as {image.dtype} {tuple(image.shape)}")


def _numpy(arguments: Any) -> np.ndarray:
    array = np.full(arguments["shape"], arguments["fill"]).astype(arguments["type"])
    if arguments["strides"] == "reversed":
        array = array[::-1]
    elif arguments["strides"] == "broadcast":
        array = np.broadcast_to(array, (3, *array.shape))[0]
    elif arguments["strides"] == "readonly":
        array.flags.writeable = False
    return array


def _torch(arguments: Any) -> torch.Tensor:
    dtype = getattr(torch, arguments["type"])
    if arguments["type"] == "quint8":
        return torch.quantize_per_tensor(torch.ones(arguments["shape"]), 0.1, 0, dtype)
    tensor = torch.full(arguments["shape"], arguments["fill"], dtype=torch.float64).to(dtype)
    if arguments["form"] == "meta":
        return tensor.to("meta")
    if arguments["form"] == "sparse":
        return tensor.to_sparse()
    if arguments["form"] == "conj":
        return tensor.conj()
    return tensor.requires_grad_() if arguments["form"] == "grad" else tensor


def _pil(arguments: Any) -> Image.Image:
    height, width = (*arguments["shape"], 1, 1)[:2]
    image = Image.new(arguments["type"], (width, height))
    if arguments["state"] == "closed":
        image.close()
    elif arguments["state"] == "transparent":
        image.info["transparency"] = arguments["fill"]
    return image


def _make_label_map(rng: Random) -> Case:
    dataset, path = rng.choice(
        (
            (
                "openvocab_pascal21_sem_seg_val",
                "pascal_voc_d2/annotations_pascal21/validation/a.png",
            ),
            (
                "openvocab_pascal_ctx459_sem_seg_val",
                "pascal_ctx_d2/annotations_ctx459/validation/a.tif",
            ),
        )
    )
    if rng.random() < 0.5:
        content = image_bytes(rng)
    else:
        values = rng.choice(((0, 20), (0, 255), (0, 1), (250, 256), (0, 65536), (7, 8)))
        array = np.random.default_rng(rng.randrange(99)).integers(*values, (24, 32))
        array = array.astype(rng.choice(("u1", "?", "u2", "i4", "f4", "u1")))
        if rng.random() < 0.2:
            array = np.stack([array.astype("u1")] * 3, axis=-1)
        file = io.BytesIO()
        Image.fromarray(array).save(file, "TIFF")
        content = file.getvalue()
    return Case("label_maps", {"dataset": dataset}, {path: content})


def _run_label_map(arguments: Any, folder: Path) -> None:
    from frozenseg.data.datasets import open_dataset

    (labels,) = (path for path in folder.rglob("a.*"))
    below = {"pascal_voc_d2": "pascal_voc_d2/images", "pascal_ctx_d2": "pascal_ctx_d2/images"}
    image = folder / below[labels.relative_to(folder).parts[0]] / "validation/a.jpg"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (32, 24)).save(image)
    samples = open_dataset(arguments["dataset"], root=folder)
    for index in range(len(samples)):
        semantic = samples[index].semantic
        if semantic is None or tuple(semantic.shape) != (24, 32) or semantic.min() < 0:
            raise WrongResult("a label map was accepted that does not fit its image")


ENTRIES = (
    Entry("image_files", _make_file, _run_file, 3.0),
    Entry("image_arrays", _make_array, _run_array, 2.0),
    Entry("label_maps", _make_label_map, _run_label_map, 1.0),
)
