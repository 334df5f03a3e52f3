import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from frozenseg.errors import UserError
from frozenseg.io.array_files import read_arrays, write_arrays
from frozenseg.io.digest import DIGEST, digest_of
from frozenseg.io.safetensors_files import read_safetensors, write_safetensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
ARRAYS = {"a": np.arange(6.0), "reasons": np.array(["one", "two"])}


def test_the_digest_is_sha256_of_name_type_shape_bytes_and_notes() -> None:
    by_hand = hashlib.sha256(json.dumps(["a", "torch.float32", [2]]).encode())
    by_hand.update(np.array([1, 2], dtype="<f4").tobytes())
    by_hand.update(json.dumps({"n": "x"}).encode())
    assert digest_of({"a": torch.tensor([1.0, 2.0])}, {"n": "x"}) == by_hand.hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": -torch.zeros(2, 3)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(0)},
    ],
)
def test_name_shape_type_and_every_bit_count(other) -> None:
    assert digest_of(other) != digest_of({"a": torch.zeros(2, 3)})


def test_order_memory_layout_and_the_stored_digest_do_not_count() -> None:
    value = torch.randn(3, 2)
    first = digest_of({"a": value, "b": torch.zeros(1)}, {"n": "x"})
    strided = value.t().contiguous().t()
    assert digest_of({"b": torch.zeros(1), "a": strided}, {"n": "x", DIGEST: "old"}) == first


def test_any_flipped_bit_of_a_written_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(TENSORS, path, {"clip": "abc"})
    content = path.read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        with pytest.raises(UserError):
            read_safetensors(path)


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    write_safetensors(TENSORS, tmp_path / "w.safetensors", {"clip": "abc"})
    tensors, notes = read_safetensors(tmp_path / "w.safetensors")
    assert notes["clip"] == "abc"
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    write_arrays(ARRAYS, tmp_path / "a.npz")
    arrays = read_arrays(tmp_path / "a.npz")
    assert arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(arrays[name], value) for name, value in ARRAYS.items())


def test_a_file_without_a_digest_is_accepted_only_if_the_caller_says_so(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors")
    np.savez(tmp_path / "a.npz", **ARRAYS)
    with pytest.raises(UserError, match=r"w\.safetensors has no digest"):
        read_safetensors(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"a\.npz has no digest"):
        read_arrays(tmp_path / "a.npz")
    assert read_safetensors(tmp_path / "w.safetensors", digest_required=False)[0].keys() == {
        "a",
        "b",
    }
    assert read_arrays(tmp_path / "a.npz", digest_required=False).keys() == ARRAYS.keys()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_cut_or_changed_archive_is_one_sentence(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.npz"
    write_arrays(ARRAYS, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"a\.npz is not a NumPy archive"):
        read_arrays(path)


def test_an_archive_that_promises_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    member = io.BytesIO()
    np.save(member, np.zeros(10))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(
            "a.npy", member.getvalue().replace(b"(10,), }        ", b"(1000000000,), }")
        )
    with pytest.raises(UserError, match="size is not that of its type and shape"):
        read_arrays(tmp_path / "a.npz", digest_required=False)


def test_compressed_archives_and_python_objects_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "c.npz", a=np.zeros(1000))
    with pytest.raises(UserError, match=r"compressed array .a\.npy"):
        read_arrays(tmp_path / "c.npz", digest_required=False)
    np.savez(tmp_path / "o.npz", a=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError):
        read_arrays(tmp_path / "o.npz", digest_required=False)


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(TENSORS, path, {})
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("frozenseg.io.safetensors_files.save_file", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        write_safetensors({"a": torch.zeros(1)}, path, {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
