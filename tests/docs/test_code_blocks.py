"""Python blocks of the documentation run, in a folder with drawn scenes; YAML blocks are YAML.

A Python block that cannot run says why in a comment before it: ``<!-- not run: needs ... -->``.
"""

from pathlib import Path

import pytest
import yaml
from PIL import Image

from frozenseg.data.shapes import ShapesDataset
from tests.fixtures.pages import Block, blocks

SCENES = ("output/demo/scene_1.png", "scene.png", "photo.jpg")


def of(*languages: str) -> list[Block]:
    return [block for block in blocks() if block.language in languages]


def name(block: Block) -> str:
    return f"{block.page}: {block.text.strip().splitlines()[0][:50]}"


@pytest.mark.parametrize("block", of("python"), ids=name)
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(block.text, block.page, "exec")
    if block.note.startswith("not run: "):
        return
    scene = ShapesDataset("val")[0].image.permute(1, 2, 0).numpy()
    for path in SCENES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene).save(tmp_path / path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))
    exec(code, {"__name__": "block"})


@pytest.mark.parametrize("block", of("yaml"), ids=name)
def test_yaml_is_yaml(block: Block) -> None:
    assert yaml.safe_load(block.text) is not None
