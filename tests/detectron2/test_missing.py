"""What a user without Detectron2 reads; these tests run everywhere."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import frozenseg
from frozenseg.errors import UserError


@pytest.fixture
def without_detectron2(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("frozenseg.detectron2")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "detectron2", None)


@pytest.mark.usefixtures("without_detectron2")
@pytest.mark.parametrize("kind", [UserError, ImportError])
def test_the_sentence_says_how_to_install_it_and_what_works_without(kind: type[Exception]) -> None:
    with pytest.raises(
        kind, match=r"not installed: pip install .*facebookresearch/detectron2\.git.*native"
    ):
        importlib.import_module("frozenseg.detectron2")


def test_a_missing_part_of_detectron2_is_not_taken_for_detectron2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text("import a_part_that_is_not_there\n")
    for name in [n for n in sys.modules if n.split(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("frozenseg.detectron2")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_not_there"):
        importlib.import_module("frozenseg.detectron2")


def test_no_other_part_of_the_project_needs_detectron2() -> None:
    root = Path(frozenseg.__file__).parent
    pattern = re.compile(r"^(from|import) detectron2\b", re.MULTILINE)
    users = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        if pattern.search(path.read_text())
    }
    assert users == {"detectron2"}
