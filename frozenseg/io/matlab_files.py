"""Numeric matrices of MATLAB files (level 5); SciPy's reader can crash the process on damaged ones.

The format: 128 bytes of header, then elements of a type, a size and data. A variable is a matrix
element, usually compressed, of further elements: flags, dimensions, name, values.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 28  # of a file, and of a compressed variable
_HEADER_BYTES = 128
_BYTE_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}  # version and byte order end the header
_MATRIX, _COMPRESSED = 14, 15
_INT8, _INT32, _UINT32 = 1, 5, 6
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), start=6))
_COMPLEX = 1 << 11


def read_matrix(path: Path, name: str) -> NDArray[np.number]:
    """Returns a real numeric variable of a MATLAB file with its dimensions.

    Raises:
        ValueError: the file is damaged or of another level, or has no such variable.
        OSError: it cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    content = path.read_bytes()
    order = _BYTE_ORDERS.get(content[_HEADER_BYTES - 4 : _HEADER_BYTES])
    if order is None:
        raise ValueError("it is no MATLAB file of level 5")
    for kind, data in _elements(content[_HEADER_BYTES:], order):
        if kind == _COMPRESSED:
            kind, data = next(_elements(_inflated(data), order), (0, b""))
        parts = _elements(data, order) if kind == _MATRIX else iter(())
        matrix = _matrix(parts, name, order)
        if matrix is not None:
            return matrix
    raise ValueError(f"it has no matrix {name}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Iterates over type and data of elements."""
    place = 0
    while place < len(data):
        tag = data[place : place + 8]
        if len(tag) < 8:
            raise ValueError("it ends within an element")
        kind, size = struct.unpack(f"{order}2I", tag)
        start = place + 8
        if kind >> 16:  # up to four bytes lie in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        end = start + size
        if end > len(data) or (start == place + 4 and size > 4):
            raise ValueError("it ends within an element")
        yield kind, data[start:end]
        place = max(end, place + 8)
        if kind != _COMPRESSED:
            place += -place % 8


def _inflated(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflate.eof:
        raise ValueError("a variable is cut off or too large")
    return content


def _matrix(parts: Iterator[tuple[int, bytes]], name: str, order: str) -> NDArray[np.number] | None:
    """Returns the matrix of this name; None for another variable."""
    header = [next(parts, (0, b"")) for _ in range(3)]
    (kinds, (flags, dimensions, found)) = zip(*header, strict=True)
    if kinds != (_UINT32, _INT32, _INT8) or found != name.encode():
        return None
    if len(flags) != 8 or len(dimensions) % 4:
        raise ValueError(f"{name} has a damaged header")
    (bits,) = struct.unpack_from(f"{order}I", flags)
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    dtype = _CLASSES.get(bits & 0xFF)
    kind, values = next(parts, (0, b""))
    if dtype is None or bits & _COMPLEX or kind not in _STORED:
        raise ValueError(f"{name} is no real numeric matrix")
    stored = np.frombuffer(values, order + _STORED[kind])  # a ValueError if a part is missing
    if min(shape, default=-1) < 0 or math.prod(shape) != len(stored):
        raise ValueError(f"{name} has {len(stored)} values, but the dimensions {shape}")
    return stored.astype(dtype).reshape(shape, order="F")
