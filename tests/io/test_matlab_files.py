"""MATLAB files: what SciPy writes is read back; damaged files raise errors and nothing else."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from frozenseg.io.matlab_files import read_matrix

TYPES = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 30), (2, 3, 4), (0, 2)])
def test_scipys_files_are_read(tmp_path: Path, compressed, dtype, shape) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    variables = {"other": {"nested": [1, "two"]}, "LabelMap": values, "last": np.eye(2)}
    savemat(tmp_path / "a.mat", variables, do_compression=compressed)
    found = read_matrix(tmp_path / "a.mat", "LabelMap")
    assert found.dtype == values.dtype and found.shape == shape
    np.testing.assert_array_equal(found, values)


def test_a_file_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    flags = struct.pack(">2I2I", 6, 8, 11, 0)  # class 11: uint16
    dimensions = struct.pack(">2I2i", 5, 8, 2, 3)
    name = struct.pack(">I4s", 4 << 16 | 1, b"abcd")  # within its tag
    values = struct.pack(">2I6B2x", 2, 6, *range(1, 7))  # stored as uint8
    content = flags + dimensions + name + values
    header = b"MATLAB 5.0".ljust(124) + b"\x01\x00MI"
    (tmp_path / "a.mat").write_bytes(header + struct.pack(">2I", 14, len(content)) + content)
    found = read_matrix(tmp_path / "a.mat", "abcd")
    assert found.dtype == np.uint16 and found.tolist() == [[1, 3, 5], [2, 4, 6]]


@pytest.mark.parametrize("values", ["text", {"a": 1}, 1j * np.eye(2), [["cell", 1]]])
def test_other_variables_are_refused(tmp_path: Path, values) -> None:
    savemat(tmp_path / "a.mat", {"LabelMap": values})
    with pytest.raises(ValueError, match="LabelMap"):
        read_matrix(tmp_path / "a.mat", "LabelMap")


def test_a_missing_variable_and_another_level_are_named(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"a": np.eye(2)})
    with pytest.raises(ValueError, match="no matrix LabelMap"):
        read_matrix(tmp_path / "a.mat", "LabelMap")
    savemat(tmp_path / "old.mat", {"LabelMap": np.eye(2)}, format="4")
    with pytest.raises(ValueError, match="level 5"):
        read_matrix(tmp_path / "old.mat", "LabelMap")


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_raises_an_error_or_changes_values(tmp_path: Path, compressed) -> None:
    path, draw = tmp_path / "a.mat", random.Random(0)
    savemat(path, {"LabelMap": np.arange(600).reshape(20, 30)}, do_compression=compressed)
    sound = path.read_bytes()
    for _ in range(2000):
        content = bytearray(sound[: draw.choice((len(sound), draw.randrange(len(sound))))])
        for _ in range(draw.randrange(4)):
            if content:
                content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content)
        try:
            assert read_matrix(path, "LabelMap").size == 600
        except ValueError:
            continue
