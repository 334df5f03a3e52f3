import contextlib
import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from frozenseg.errors import UserError
from frozenseg.io.weight_files import assign_weights, read_weights

STATE = {"a": torch.arange(6.0).view(2, 3), "b.c": torch.tensor(4)}


def assert_is_state(path: Path) -> None:
    tensors = read_weights(path).tensors
    assert tensors.keys() == STATE.keys()
    for name, value in STATE.items():
        assert torch.equal(tensors[name], value)


WRAPPINGS = {
    "bare": STATE,
    "detectron2": {
        "model": STATE,
        "iteration": 5,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    },
    "open_clip": {"state_dict": STATE, "epoch": 3},
    "plain training loop": {"model_state_dict": STATE, "loss": 0.5},
    "deepspeed in a container": {"checkpoint": 1, "module": {"state_dict": STATE}},
    "numpy": {"model": {name: value.numpy() for name, value in STATE.items()}, "__author__": "zoo"},
    "only an average": {"model_ema": STATE, "epoch": 3},
    "an average beside the weights": {
        "ema": {name: value + 1 for name, value in STATE.items()},
        "model": STATE,
    },
    "an empty container": {"model": {}, "ema": STATE},
}
PREFIXES = ["module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.model."]


@pytest.mark.parametrize("content", WRAPPINGS.values(), ids=WRAPPINGS.keys())
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_container_is_unwrapped(tmp_path: Path, content, zipped: bool) -> None:
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_is_state(tmp_path / "w.pth")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("kind", ["torch", "container", "safetensors"])
def test_prefixes_of_wrappers_go_in_any_order(tmp_path: Path, prefix: str, kind: str) -> None:
    state = {f"{prefix}{name}": value for name, value in STATE.items()}
    if kind == "safetensors":
        save_file(state, tmp_path / "w.pth")
    else:
        torch.save({"state_dict": state} if kind == "container" else state, tmp_path / "w.pth")
    assert_is_state(tmp_path / "w.pth")


def test_a_wrapper_inside_a_name_and_an_average_beside_the_weights_go(tmp_path: Path) -> None:
    state = {"model.a": STATE["a"], "model.b._orig_mod.c": STATE["b.c"]}
    average = {"model_ema.a": STATE["a"] + 1, "model_ema.b.c": STATE["b.c"]}
    torch.save({**state, **average, "n_averaged": torch.tensor(3)}, tmp_path / "w.pth")
    assert_is_state(tmp_path / "w.pth")


def test_a_loss_beside_the_wrapped_model_does_not_hide_the_prefix(tmp_path: Path) -> None:
    state = {f"model.{name}": value for name, value in STATE.items()}
    torch.save({**state, "criterion.empty_weight": torch.ones(2)}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").tensors.keys() == {*STATE, "criterion.empty_weight"}


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".bin", ".ckpt", ""])
def test_the_content_counts_and_not_the_ending(tmp_path: Path, ending: str) -> None:
    torch.save(STATE, tmp_path / f"torch{ending}")
    save_file(STATE, tmp_path / f"safe{ending}")
    if ending != ".safetensors":
        assert_is_state(tmp_path / f"torch{ending}")
    assert_is_state(tmp_path / f"safe{ending}")


def write_shards(folder: Path, ending: str) -> Path:
    names = [f"model-0000{n}-of-00002{ending}" for n in (1, 2)]
    for file, (name, value) in zip(names, STATE.items(), strict=True):
        save = save_file if ending == ".safetensors" else torch.save
        save({name: value}, folder / file)
    index = folder / f"model{ending}.index.json"
    places = dict(zip(STATE, names, strict=True))
    index.write_text(json.dumps({"metadata": {"total_size": 28}, "weight_map": places}))
    return index


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_shards_are_read_by_index_by_folder_or_by_one_of_them(tmp_path: Path, ending: str) -> None:
    index = write_shards(tmp_path, ending)
    assert_is_state(index)
    assert_is_state(tmp_path / f"model-00002-of-00002{ending}")
    if ending == ".safetensors":
        assert_is_state(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"a": "gone.safetensors"}, "names 'gone.safetensors', which does not exist"),
        ({"a": "../x.safetensors"}, "which is not beside it"),
        ({"z": "model-00001-of-00002.safetensors"}, "lists weights that its files do not hold: z"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_explained(tmp_path, change, sentence) -> None:
    index = write_shards(tmp_path, ".safetensors")
    content = json.loads(index.read_text())
    content["weight_map"] |= change
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=re.escape(sentence)):
        read_weights(index)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (torch.tensor([1.0, float("nan")]), "a, which holds NaN or infinite numbers"),
        (torch.tensor([1.0, float("inf")]).half(), "a, which holds NaN or infinite numbers"),
        (torch.ones(2, dtype=torch.complex64), "the type torch.complex64, which no weight has"),
        (torch.ones(2).to(torch.float8_e5m2), "the type torch.float8_e5m2, which no weight has"),
        (torch.ones(2).to_sparse(), "a, which is not a plain dense tensor"),
        (torch.ones(1).expand(10**12), "a, which has more elements than are stored"),
        (torch.ones(2, device="meta"), "a, which is not a plain dense tensor"),
    ],
)
def test_what_no_weight_is_is_refused(tmp_path: Path, value, sentence: str) -> None:
    torch.save({"a": value}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=re.escape(sentence)):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b'{"weight_map": {}}', "is JSON but no index of weights"),
        (b"{" * 100, "is not JSON"),
        (b"PK\x03\x04" + b"\0" * 100, "is cut short or damaged"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "is cut short or damaged"),
        (b"\0" * 1000, "begins like no file of weights"),
    ],
)
def test_other_content_is_recognised(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_weights(tmp_path / "w.pth")


def test_a_flipped_bit_in_a_torch_file_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match="does not have its checksum"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_archives_that_torch_did_not_write_are_refused(tmp_path: Path, compression: int) -> None:
    name = "w/data.pkl" if compression == zipfile.ZIP_DEFLATED else "w/other"
    with zipfile.ZipFile(tmp_path / "w.pth", "w", compression) as archive:
        archive.writestr(name, b"\0" * 1_000_000)
    with pytest.raises(UserError, match=r"which torch\.save does not write|did not write"):
        read_weights(tmp_path / "w.pth")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), zipped=st.booleans())
def test_no_damage_to_a_torch_file_is_anything_but_a_sentence(tmp_path, data, zipped) -> None:
    path = tmp_path / "w.pth"
    torch.save({"model": STATE}, path, _use_new_zipfile_serialization=zipped)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        read_weights(path)


def test_safetensors_come_with_their_notes(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors", {"clip": "abc"})
    assert_is_state(tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors").notes == {"clip": "abc"}


class RunsCode:
    """What a malicious file holds: reading it naively would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_needs_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    torch.save({"model": STATE, "trap": RunsCode(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(
        UserError, match=r"refused: .* run code that it names .*save the weights alone"
    ):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_whole_saved_model_is_refused_by_its_class(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_is_refused_as_such(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps({"model": {"a": np.zeros(2)}}, protocol=protocol)
    (tmp_path / "w.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.pkl is refused: it is a plain pickle"):
        read_weights(tmp_path / "w.pkl")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(UserError, match="refused: it is a TorchScript archive"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_says_how_long_it_is(tmp_path: Path, suffix: str, share: float) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    state = {"a": torch.randn(100, 100)}
    save_file(state, whole) if suffix == ".safetensors" else torch.save(state, whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"\({int(share * len(content)):,} bytes\) is cut short"):
        read_weights(cut)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "holds a list"),
        ({"lr": 0.1}, "'lr' is a float"),
        ({"model": {}}, "it is empty"),
    ],
)
def test_what_is_no_state_is_named(tmp_path: Path, content: object, sentence: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=sentence):
        read_weights(tmp_path / "w.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no weights file .*nowhere\.pth"):
        read_weights(tmp_path / "nowhere.pth")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux lists what is mapped")
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_stay_mapped_from_their_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w.{ending}"
    (save_file if ending == "safetensors" else torch.save)(STATE, path)
    tensors = read_weights(path).tensors
    assert str(path) in Path("/proc/self/maps").read_text()
    assert torch.equal(tensors["a"], STATE["a"])


def test_assigned_weights_are_not_copied_but_brought_to_the_models_type() -> None:
    layer = nn.Linear(2, 3).requires_grad_(False)
    weight, bias = torch.randn(3, 2), torch.randn(3).half()
    assign_weights(layer, {"weight": weight, "bias": bias})
    assert layer.weight.data_ptr() == weight.data_ptr()
    assert torch.equal(layer.bias, bias.float())
    assert not layer.weight.requires_grad
    assert isinstance(layer.weight, nn.Parameter)
