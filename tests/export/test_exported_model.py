"""The shapes model, exported by the command and run by the script of the documentation."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenseg.data.shapes import ShapesDataset
from frozenseg.inference.segmenter import Segmenter

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.xdist_group("export")  # one worker exports once

SCRIPT = Path(__file__).parents[2] / "docs" / "run_exported.py"
WORDS = ["dotted green circle", "striped yellow circle", "lava", "gravel", "sand", "red star"]
# runs the script and fails if it imported more than it promises
ALONE = (
    "import runpy, sys; script = sys.argv.pop(1); sys.argv[0] = script;"
    "runpy.run_path(script, run_name='__main__');"
    "assert not {'torch', 'PIL', 'open_clip', 'frozenseg'} & set(sys.modules)"
)


def run_script(folder: Path, image: np.ndarray, words: list[str]) -> np.ndarray:
    """Returns each pixel's class id by the script; -1 without one."""
    np.save(folder / "image.npy", image)
    arguments = [str(SCRIPT), str(folder), str(folder / "image.npy"), *words]
    done = subprocess.run(
        [sys.executable, "-P", "-c", ALONE, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ids = np.load(folder / "segments.npy")
    classes = np.full(ids.max() + 1, -1)
    for line in done.stdout.splitlines():
        number, rest = line.split(": ")
        classes[int(number)] = words.index(rest.rsplit(" ", 1)[0])
    return classes[ids]


def expected_classes(segmenter: Segmenter, image: torch.Tensor, words: list[str]) -> np.ndarray:
    panoptic = segmenter(image, words).panoptic
    assert panoptic is not None
    classes = np.array([-1, *(segment.class_id for segment in panoptic.segments)])
    return classes[panoptic.ids.numpy()]


@pytest.mark.slow
@pytest.mark.parametrize(("index", "size"), [(19, (256, 256)), (28, (200, 256)), (42, (256, 170))])
def test_the_script_gives_the_panoptic_map_of_the_model(segmenter, exported, index, size) -> None:
    image = ShapesDataset("val")[index].image[:, : size[0], : size[1]].contiguous()
    found = run_script(exported, image.permute(1, 2, 0).numpy(), WORDS)
    expected = expected_classes(segmenter, image, WORDS)
    assert (expected >= 0).mean() > 0.2
    assert (found == expected).mean() >= 0.999


@pytest.mark.slow
def test_the_table_holds_what_the_script_needs(exported: Path) -> None:
    table = json.loads((exported / "model.json").read_text())
    assert table["side_multiple"] == 32
    assert "red circle" in table["seen"]
    assert len(table["templates"]) == 14
