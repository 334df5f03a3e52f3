"""docs/own_data.md: its commands run, on generated photographs."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from frozenseg.checkpoint.class_names import noted_classes
from frozenseg.data.catalog import dataset_samples, dataset_vocabulary, register_dataset

PAGE = Path(__file__).parents[2] / "docs" / "own_data.md"
SHAPES = {
    "lawn": [[0, 60], [128, 60], [128, 128], [0, 128]],
    "player": [[40, 20], [60, 20], [60, 100], [40, 100]],
    "ball": [[80, 90], [100, 90], [100, 110], [80, 110]],
}
COLORS = {"lawn": (40, 160, 60), "player": (200, 30, 30), "ball": (240, 240, 240)}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photographs with LabelMe's outlines, in the folder where the commands run."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        picture = Image.new("RGB", (128, 128), (120, 170, 250))
        draw = ImageDraw.Draw(picture)
        for label, points in SHAPES.items():
            draw.polygon([tuple(point) for point in points], fill=COLORS[label])
        picture.save(folder / f"{name}.jpg")
        content = {
            "imagePath": f"{name}.jpg",
            "imageHeight": 128,
            "imageWidth": 128,
            "shapes": [
                {"label": label, "points": points, "shape_type": "polygon"}
                for label, points in SHAPES.items()
            ],
        }
        (folder / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))
    return folder


def commands() -> list[list[str]]:
    page = PAGE.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    lines = [line for kind, block in blocks if not kind for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("frozenseg ")]


def test_the_page_goes_from_photographs_to_a_pq(photos: Path, run) -> None:
    found = commands()
    assert [words[0] for words in found] == ["datasets"] * 3 + ["train", "evaluate"]
    for words in found:
        workers = ["DATALOADER.NUM_WORKERS", "0"] if words[0] == "train" else []
        done = run(*words, *workers)
        assert done.exit_code == 0, (words, done.output)
    described = yaml_block("name: football\nimages: photos")
    assert Path("football.yaml").read_text().replace(comment(), "") == described
    assert Image.open("sample.png").width > 256
    metrics = json.loads(Path("output/scores/metrics.json").read_text())
    assert 0 <= metrics["panoptic/PQ"] <= 100
    assert not np.isnan(metrics["panoptic/seen/PQ"])  # 'player' is no class of the shapes world
    trained = noted_classes("output/football/model_final.safetensors")
    assert trained is not None and trained.names == ("ball", "lawn", "player")
    assert trained.is_thing == (True, False, True)


def test_the_pages_example_file_and_python_are_valid(photos: Path, run) -> None:
    run("datasets", "convert", "photos", "-o", "football.yaml", "--stuff", "lawn")
    python = re.search(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert python is not None
    names: dict = {}
    exec(python[1], names)
    assert names["name"] == "football" and names["sample"].panoptic is not None
    text = yaml_block("name: football                 #")
    for key in ("panoptic", "labels"):  # there are no such files
        text = re.sub(rf"^{key}:.*\n", "", text, flags=re.MULTILINE)
    text = text.replace("instances.json", "football.json")
    text = text.replace("  lawn:", "  ball: []\n  lawn:").replace("name: football", "name: other")
    Path("other.yaml").write_text(text)
    name = register_dataset("other.yaml")
    assert dataset_vocabulary(name).synonyms[2] == ("player", "athlete", "footballer")
    assert len(dataset_samples(name)) == 2


def yaml_block(start: str) -> str:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(start)]
    return block


def comment() -> str:
    (line,) = [line for line in Path("football.yaml").read_text().splitlines() if line[0] == "#"]
    return line + "\n"
