"""From captions to an adapted CLIP: mine, adapt-clip image, adapt-clip prompts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from frozenseg.data.pairs import read_pairs
from frozenseg.data.shapes import ShapesDataset
from frozenseg.io.weight_files import read_weights
from frozenseg.towers.clip_vit import PROMPTS
from frozenseg.towers.loading import SHAPES
from frozenseg.training.metric_writers import read_json_lines
from tests.fixtures.ovseg import TINY_TEXT, TINY_VIT
from tests.training.test_pairs import write_squares

CAPTIONS = ("A star near a ring on the grass.", "It is very beautiful", "A square on water")


@pytest.fixture
def clip(tmp_path: Path, tiny_vit) -> Path:
    """The folder of a tiny ViT without mask prompts."""
    folder = tmp_path / "vit"
    folder.mkdir()
    sizes = {"embed_dim": 8, "vision_cfg": TINY_VIT, "text_cfg": TINY_TEXT, "quick_gelu": True}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": sizes}))
    shutil.copy(SHAPES / "clip" / "bpe.txt.gz", folder)
    state = {name: value.contiguous() for name, value in tiny_vit(0).published_state().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Three captioned scenes; the second caption has no noun."""
    images, annotations = [], []
    for number, caption in enumerate(CAPTIONS):
        pixels = ShapesDataset("val", image_size=96)[number].image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
        annotations.append({"image_id": number, "caption": caption})
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_captions_become_pairs_a_report_and_a_picture(run, captions, clip, tmp_path) -> None:
    output = tmp_path / "pairs"
    command = ("mine", captions, tmp_path, "--clip", clip, "--device", "cpu", "-o", output)
    small = ("--set", "INPUT.MIN_SIZE_TEST=128")
    result = run(*command, *small)
    assert result.exit_code == 0, result.output
    assert "nouns from 3 images, 1 of them without a pair" in result.stdout
    assert "1.png gives no pair: its captions have no noun" in result.stderr
    titles = [pair.title for pair in read_pairs(output / "pairs.tsv")]
    assert titles and set(titles) <= {"star", "ring", "grass", "square", "water"}
    report = json.loads((output / "report.json").read_text())
    assert report["pairs"] == len(titles) and report["images"] == 3
    assert Image.open(output / "samples.png").width > 224
    before = {path: path.stat().st_mtime_ns for path in (output / "records").rglob("*.json")}
    assert run(*command, *small).exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    result = run(*command, *small, "--threshold", 0.5)
    assert result.exit_code == 2 and "mined with threshold '0.4', not '0.5'" in result.stderr


def test_fine_tuning_then_mask_prompt_tuning(run, clip, tmp_path, tiny_vit) -> None:
    pairs = write_squares(tmp_path / "pairs")
    common = ("--clip", clip, "--batch-size", 4, "--warmup", 1, "--workers", 0, "--device", "cpu",
              "--precision", "float32", "--seed", 1)  # fmt: skip
    ft, mpt = tmp_path / "ft", tmp_path / "mpt"
    result = run("adapt-clip", "image", pairs, *common, "-o", ft, "--epochs", 2, "--lr", 0.01)
    assert result.exit_code == 0, result.output
    weights = ft / "clip_final.safetensors"
    tuned = read_weights(weights).tensors
    assert PROMPTS not in tuned
    assert not torch.equal(tuned["visual.proj"], tiny_vit(0).published_state()["visual.proj"])
    again = ("adapt-clip", "prompts", pairs, *common, "--clip-weights", weights, "-o", mpt)
    assert run(*again, "--epochs", 1).exit_code == 0
    assert run(*again, "--epochs", 1).exit_code == 2  # the folder holds a run
    assert run(*again, "--epochs", 2, "--resume").exit_code == 0
    assert [r["iteration"] for r in read_json_lines(mpt / "metrics.jsonl")] == [2, 4]
    both = read_weights(mpt / "clip_final.safetensors").tensors
    assert both[PROMPTS].shape == (3, 9, 16)
    assert torch.equal(both["visual.proj"], tuned["visual.proj"])
    assert not torch.equal(both["logit_scale"], tuned["logit_scale"])
    pairs.write_text("\n".join(pairs.read_text().splitlines()[:5]) + "\n")
    result = run(*again, "--epochs", 9, "--resume")
    assert result.exit_code == 2 and "holds other pairs than the run" in result.stderr


def test_mistakes_are_one_sentence(run, captions, clip, tmp_path) -> None:
    pairs = write_squares(tmp_path / "pairs")
    tune = ("adapt-clip", "image", pairs, "--clip", clip, "--device", "cpu", "-o", tmp_path / "x")
    result = run(*tune, "--batch-size", 1)
    assert result.exit_code == 2 and "--batch-size is 1" in result.stderr
    (pairs.parent / "crops/0.png").unlink()
    result = run(*tune, "--batch-size", 8, "--workers", 0)
    assert result.exit_code == 2
    assert "pairs.tsv names the crop 'crops/0.png', which does not exist" in result.stderr
    result = run("mine", captions, tmp_path / "nowhere", "--clip", clip)
    assert result.exit_code == 2 and "nowhere is not a folder" in result.stderr
