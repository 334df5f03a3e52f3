import os
import subprocess
import sys
from pathlib import Path

import pytest

from frozenseg.errors import UserError
from frozenseg.io import files
from frozenseg.io.files import atomic_write, cache_folder, is_file, is_folder, user_path

CACHE_KEYS = ("FROZENSEG_CACHE", "XDG_CACHE_HOME")


@pytest.fixture(autouse=True)
def no_cache_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CACHE_KEYS:
        monkeypatch.delenv(name, raising=False)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/frozenseg")
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp/xdg")
    assert cache_folder() == Path("/tmp/xdg/frozenseg")
    monkeypatch.setenv("FROZENSEG_CACHE", "~/mine")
    assert cache_folder() == Path("/home/someone/mine")


def test_a_user_without_a_home_has_a_cache_for_one_run_and_is_told_once() -> None:
    code = (
        "from frozenseg.io.files import cache_folder\n"
        "import os; os.path.expanduser = lambda path: path\n"
        "folder = cache_folder()\n"
        "assert folder.is_dir() and cache_folder() == folder\n"
        "print(folder)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in CACHE_KEYS}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("no home directory") == 1
    assert not Path(done.stdout.strip()).exists()


def test_an_unknown_users_home_is_no_error() -> None:
    assert user_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


@pytest.mark.parametrize("name", ["a file/x.txt", "nul\0/x.txt"])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(UserError, match="cannot be made"), atomic_write(tmp_path / name):
        raise AssertionError("the block must not run")


def test_a_failed_block_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "ünï code.txt"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_write(path) as part:
        part.write_text("new")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with (
        pytest.raises(UserError, match="taken cannot be written"),
        atomic_write(tmp_path / "taken") as part,
    ):
        assert part.name.startswith(files.TEMPORARY_PREFIX)
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def test_text_that_is_no_path_is_neither_file_nor_folder(tmp_path: Path) -> None:
    assert not is_file(Path("x" * 3000)) and not is_folder(Path("x" * 3000))
    assert is_folder(tmp_path) and not is_file(tmp_path)
