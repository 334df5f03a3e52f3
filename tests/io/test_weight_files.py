import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from frozenseg.errors import UserError
from frozenseg.io.weight_files import read_weights

STATE = {"a": torch.arange(6.0).view(2, 3), "b.c": torch.tensor(4)}


def assert_is_state(path: Path) -> None:
    tensors = read_weights(path).tensors
    assert tensors.keys() == STATE.keys()
    for name, value in STATE.items():
        assert torch.equal(tensors[name], value)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"model": STATE, "iteration": 5, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"state_dict": STATE, "epoch": 3},
        {"model": {name: value.numpy() for name, value in STATE.items()}, "__author__": "zoo"},
        {"model": {f"module.{name}": value for name, value in STATE.items()}},
    ],
    ids=["bare", "detectron2", "open_clip", "numpy", "parallel"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_wrapping_of_a_state_is_unwrapped(tmp_path: Path, content, zipped: bool) -> None:
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_is_state(tmp_path / "w.pth")


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
