import logging
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from frozenseg.errors import UserError
from frozenseg.io.safetensors_files import read_safetensors
from frozenseg.training.checkpoints import (
    TRAINING,
    WEIGHTS,
    Checkpoint,
    CheckpointFolder,
    check_same_towers,
    publish_weights,
    read_checkpoint,
)


def checkpoint(iteration: int, size: int = 4) -> Checkpoint:
    return Checkpoint(
        iteration=iteration,
        weights={"a": torch.full((size,), float(iteration)), "b": torch.ones(2, 3).T},
        about={"clip": "abc"},
        training={"random/0/torch": torch.arange(5, dtype=torch.uint8)},
        numbers={"samples_seen": 8 * iteration, "scaler": {"scale": 65536.0}},
    )


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "run" / "checkpoints", keep=2)


def newest(folder: CheckpointFolder) -> int | None:
    found = folder.newest()
    return None if found is None else found.iteration


def test_what_is_saved_is_read_back(folder: CheckpointFolder) -> None:
    saved = checkpoint(3)
    read = read_checkpoint(folder.save(saved))
    assert (read.iteration, read.numbers) == (3, saved.numbers)
    for kind in ("weights", "training"):
        ours, theirs = getattr(saved, kind), getattr(read, kind)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert read.about["clip"] == "abc"


def test_an_empty_folder_has_no_newest(folder: CheckpointFolder) -> None:
    assert newest(folder) is None


def test_a_copy_that_someone_made_is_left_alone(folder: CheckpointFolder) -> None:
    (folder.folder / "0000007-best").mkdir(parents=True)
    assert folder.paths() == []


def test_only_the_last_ones_are_kept(folder: CheckpointFolder) -> None:
    for iteration in (5, 10, 15):
        folder.save(checkpoint(iteration))
    assert [path.name for path in folder.paths()] == ["0000015", "0000010"]
    pointer = folder.folder.parent / "last_checkpoint"
    assert pointer.read_text() == "checkpoints/0000015\n"


@pytest.mark.parametrize("file", [WEIGHTS, TRAINING])
@pytest.mark.parametrize("damage", ["cut short", "empty", "gone", "noise", "flipped bit"])
def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(
    folder: CheckpointFolder, caplog: pytest.LogCaptureFixture, file: str, damage: str
) -> None:
    folder.save(checkpoint(5))
    path = folder.save(checkpoint(10)) / file
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-3] ^= 16
    replaced = {
        "cut short": content[:-4],
        "empty": b"",
        "noise": b"\xff" * len(content),
        "flipped bit": bytes(flipped),
    }
    path.unlink() if damage == "gone" else path.write_bytes(replaced[damage])
    with caplog.at_level(logging.WARNING):
        assert newest(folder) == 5
    assert "0000010 cannot be read" in caplog.text
    assert "trying the previous one" in caplog.text


def test_files_of_two_checkpoints_do_not_mix(folder: CheckpointFolder) -> None:
    before = folder.save(checkpoint(5))
    path = folder.save(checkpoint(10))
    shutil.copyfile(before / WEIGHTS, path / WEIGHTS)
    assert newest(folder) == 5


def test_a_failed_save_leaves_nothing_behind(folder: CheckpointFolder) -> None:
    folder.save(checkpoint(5))
    broken = Checkpoint(6, {"a": torch.ones(1)}, {}, {}, numbers={"object": object()})
    with pytest.raises(TypeError):
        folder.save(broken)
    assert os.listdir(folder.folder) == ["0000005"]
    assert newest(folder) == 5


def test_a_damaged_checkpoint_is_replaced_when_the_run_comes_by_again(
    folder: CheckpointFolder,
) -> None:
    path = folder.save(checkpoint(5))
    (path / WEIGHTS).write_bytes(b"")
    folder.save(checkpoint(5))
    assert newest(folder) == 5


def test_a_checkpoint_does_not_make_room_for_damaged_ones_after_it(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    (tmp_path / "0000060").mkdir()
    assert folder.save(checkpoint(5)).exists()
    assert folder.save(checkpoint(6)).exists()
    assert [path.name for path in folder.paths()] == ["0000060", "0000006"]
    assert folder.newest_path() == tmp_path / "0000006"


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(checkpoint(5))

    def full(*_: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("frozenseg.io.safetensors_files.save_file", full)
    with pytest.raises(UserError, match=r"0000006 cannot be written.*No space left.*free"):
        folder.save(checkpoint(6))
    assert newest(folder) == 5
    assert [path.name for path in folder.folder.iterdir()] == ["0000005"]


def _save_without_end(folder: Path) -> None:
    saver = CheckpointFolder(folder, keep=2)
    for iteration in range(1, 10_000):
        saver.save(checkpoint(iteration, size=200_000))


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(folder: CheckpointFolder) -> None:
    for milliseconds in (1, 17, 33, 61):
        shutil.rmtree(folder.folder, ignore_errors=True)
        process = multiprocessing.get_context("fork").Process(
            target=_save_without_end, args=(folder.folder,)
        )
        process.start()
        while len(folder.paths()) < 2:
            time.sleep(0.002)
        time.sleep(milliseconds / 1000)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        last = folder.paths()[0]
        assert read_checkpoint(last).weights["a"][-1] == int(last.name)
        folder.save(checkpoint(20_000))
        assert not list(folder.folder.glob(".partial-*"))


def test_published_weights_outlive_rotation(folder: CheckpointFolder, tmp_path: Path) -> None:
    publish_weights(folder.save(checkpoint(5)), tmp_path / "model_final.safetensors")
    for iteration in (6, 7, 8):
        folder.save(checkpoint(iteration))
    weights, notes = read_safetensors(tmp_path / "model_final.safetensors")
    assert weights["a"][0] == 5
    assert (notes["iteration"], notes["clip"]) == ("5", "abc")


def test_weights_for_another_tower_are_refused() -> None:
    check_same_towers({"clip": "abc"}, {"clip": "abc"}, source="run")
    with pytest.raises(
        UserError, match=r"another clip tower \(abc\) than the configured one \(x\)"
    ):
        check_same_towers({"clip": "abc"}, {"clip": "x"}, source="run")
