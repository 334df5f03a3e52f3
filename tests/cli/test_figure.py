"""``frozenseg figure``: pictures of the shapes world, and mistakes named before the long work."""

import json

import pytest
from PIL import Image

ALONE = (
    *("--baseline-set", "MODEL.FROZEN_SEG.GEOMETRIC_ENSEMBLE_ALPHA=0"),
    *("--baseline-set", "MODEL.FROZEN_SEG.GEOMETRIC_ENSEMBLE_BETA=0"),
)
CPU = ("--device", "cpu")


def columns_of(picture: Image.Image) -> int:
    """How many panels of 640 pixels stand beside each other, with gaps between them."""
    return picture.width // 640


def test_compare_has_a_column_for_each_model_and_the_annotation(run, tmp_path):
    file = tmp_path / "a" / "compare.png"
    done = run("figure", "compare", "-i", 19, *ALONE, *CPU, "-o", file)
    assert done.exit_code == 0, done.output
    assert "row 1: shapes_val 19" in done.stdout and str(file) in done.stdout
    with_baseline = columns_of(Image.open(file))
    done = run("figure", "compare", "-i", 19, "--task", "semantic", *CPU, "-o", file)
    assert done.exit_code == 0, done.output
    assert (with_baseline, columns_of(Image.open(file))) == (4, 3)


def test_compare_shows_files_with_any_words(run, picture, tmp_path):
    file = tmp_path / "compare.png"
    done = run("figure", "compare", picture, "-w", "red circle; sand [stuff]", *CPU, "-o", file)
    assert done.exit_code == 0, done.output
    assert columns_of(Image.open(file)) == 2  # image and model; no annotation


def test_attention_shows_the_object_and_where_its_query_looks(run, tmp_path):
    file = tmp_path / "attention.png"
    done = run("figure", "attention", "-i", 3, "-i", 5, *ALONE, *CPU, "-o", file)
    assert done.exit_code == 0, done.output
    shown = Image.open(file)
    assert columns_of(shown) == 3 and shown.height > 2 * 640


def test_clusters_show_a_column_for_each_sam(run, picture, tmp_path):
    file = tmp_path / "clusters.png"
    done = run(
        *("figure", "clusters", "-i", 3, "--sam", "shapes", "--sam", "shapes"),
        *("--sam-weights", "", "--sam-weights", "random", *CPU, "-o", file),
    )
    assert done.exit_code == 0, done.output
    assert columns_of(Image.open(file)) == 3


def test_diagnosis_writes_bars_and_numbers(run, tmp_path):
    file = tmp_path / "diagnosis.png"
    done = run("figure", "diagnosis", "--limit", 2, *CPU, "-o", file)
    assert done.exit_code == 0, done.output
    assert "with true classes" in done.stdout
    assert Image.open(file).format == "PNG"
    record = json.loads(file.with_suffix(".json").read_text())
    assert (record["dataset"], record["images"]) == ("shapes_val", 2)
    scores = record["scores"]
    assert set(scores["both"].values()) == {100.0}
    for measure, value in scores["as predicted"].items():
        assert 0 < value < scores["true masks"][measure] <= 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "-o", "a.jpg"], "a.jpg is not a PNG file"),
        (["compare", "-w", "cat"], "a data set has its own vocabulary"),
        (["compare", "-i", 200], "has samples 0 to 199"),
        (["compare", "-i", 1, "--limit", 2], "--index and --limit exclude each other"),
        (["compare", "a.png"], "no class names"),
        (["compare", "a.png", "-w", "cat"], "no image file a.png"),
        (["compare", "a.png", "-w", "cat", "--index", 1], "select samples of a data set"),
        (["compare", "--dataset", "openvocab_lvis_v1_val"], "neither panoptic nor semantic"),
        (["compare", "--dataset", "pascal_voc_20", "--task", "panoptic"], "no panoptic annotation"),
        (["compare", "--set", "NONSENSE"], "write KEY=VALUE"),
        (["compare", "--set", "SEEDS=1"], "nearest known key is SEED"),
        (["compare", "--baseline", "none.yaml"], "none.yaml"),
        (["attention", "--class", "unicorn"], "'unicorn' is not one of the 68 classes"),
        (["attention", "--set", "TEST.AUG.ENABLED=True"], "turn TEST.AUG off"),
        (["clusters", "--sam", "vit_q"], "no SAM named 'vit_q'"),
        (["clusters", "--sam", "a", "--sam", "b", "--sam-weights", "c"], "give one each"),
        (["diagnosis", "--dataset", "openvocab_lvis_v1_val"], "neither by PQ nor by mIoU"),
        (["diagnosis", "--dataset", "ade20k_150"], "frozenseg datasets check"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_file(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = run("figure", *arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
