"""Names from files stay below their folder; temporary files are never data."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenseg.errors import UserError
from frozenseg.io.files import atomic_write
from frozenseg.io.paths import inside, listed_files, refusal, remove_leftovers


def test_relative_names_are_joined(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b.png", source="x.json") == tmp_path / "a/b.png"
    assert inside(tmp_path, "a..b.png", source="x.json") == tmp_path / "a..b.png"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../a.png", "climbs"),
        ("a/../../b.png", "climbs"),
        ("..\\b.png", "climbs"),
        ("/etc/passwd", "absolute"),
        ("C:\\a.png", "absolute"),
        ("\\\\server\\a.png", "absolute"),
        ("", "empty"),
        ("a\0b", "zero byte"),
        ("a\ud800.png", "half a character"),
        (None, "of type NoneType"),
        (7, "of type int"),
    ],
)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name, reason: str) -> None:
    with pytest.raises(UserError, match=rf"x\.json names the file .*{reason}"):
        inside(tmp_path, name, source="x.json")


def test_links_may_lead_to_the_folder_but_not_out_of_it(tmp_path: Path) -> None:
    real, data = tmp_path / "disk", tmp_path / "data"
    real.mkdir()
    data.symlink_to(real)
    (real / "a.png").touch()
    (real / "within.png").symlink_to(real / "a.png")
    (real / "out.png").symlink_to(tmp_path / "secret.png")
    (real / "loop").symlink_to(real / "loop")
    assert inside(data, "a.png", source="x") == data / "a.png"
    assert inside(data, "within.png", source="x") == data / "within.png"
    assert inside(data, "out.png", source="x", links=False) == data / "out.png"
    with pytest.raises(UserError, match="link that leads out"):
        inside(data, "out.png", source="x")


@given(st.text(max_size=30))
def test_no_accepted_name_leaves_the_folder(name: str) -> None:
    folder = Path("/data/images")
    if refusal(name) is None:
        joined = Path(*(part for part in (folder / name).parts))
        assert joined.is_relative_to(folder) and ".." not in joined.parts


def test_listings_leave_temporary_and_other_hidden_files_out(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", ".l52751tf.png", ".partial-l52751tf.png", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "d.png").mkdir()
    assert [path.name for path in listed_files(tmp_path, "*.png")] == ["a.png", "b.png"]
    assert listed_files(tmp_path / "nowhere") == []


def test_what_a_killed_write_leaves_is_removed_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "x.png") as part:
        temporary = part.name
        raise RuntimeError
    for name in (temporary, ".l52751tf.png", ".hidden.png", ".gitignore", "a.png"):
        (tmp_path / name).touch()
    assert remove_leftovers([tmp_path, tmp_path, tmp_path / "nowhere"]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {".hidden.png", ".gitignore", "a.png"}
